"""The server of the page to ask models, with readers that need no model."""

import http.client
import json
import re
import socket
import threading
from contextlib import contextmanager

import pytest

from qa.ask import as_json
from qa.common.errors import InputError
from qa.reader import Question
from qa.serve import server
from stub_reader import StubReader

TEXT = "🏭 Ada built it in 1412."
READER = StubReader({"Ada": 3.0, "1412": 2.0}, temperature=2.0)
JSON = {"Content-Type": "application/json"}


@contextmanager
def served(*readers, host="127.0.0.1"):
    """Yield a function that sends a request and returns status, headers and body."""
    with server.Server(host, 0, {f"run-{number}": reader for number, reader in enumerate(readers)}) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()

        def send(method, path, body=None, headers=None):
            connection = http.client.HTTPConnection("127.0.0.1", running.server_address[1], timeout=300)
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            connection.close()
            return response.status, response.headers, content

        try:
            yield send
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def send():
    with served(READER, StubReader({}, null_threshold=float("inf"), run="")) as function:
        yield function


def asking(model=0, question="Who?", texts=(TEXT,)):
    return json.dumps({"model": model, "question": question, "texts": texts})


def test_each_text_gets_the_readers_whole_answer(send):
    texts = [TEXT, "Nobody."]
    status, _, body = send("POST", "/answer", asking(texts=texts), JSON)
    expected = [
        {"candidates": []} | as_json(READER.answer(Question("Who?", text, f"text {n}")))
        for n, text in enumerate(texts, 1)
    ]
    assert (status, json.loads(body)["answers"]) == (200, expected)
    assert expected[1]["candidates"] == []
    assert [TEXT[span["start"] : span["end"]] for span in expected[0]["candidates"]] == ["Ada", "1412"]


def test_the_page_learns_names_thresholds_and_temperatures(send):
    first, second = json.loads(send("GET", "/models")[2])
    assert first == {
        "name": "stub / seed-1",
        "folder": "run-0",
        "decoding": "n_best",
        "null_threshold": 0.0,
        "temperature": 2.0,
    }
    assert (second["name"], second["null_threshold"], second["temperature"]) == ("seed-1", None, None)


def test_only_the_pages_own_files_are_sent_and_they_load_nothing_else(send):
    for path in server.FILES:
        status, headers, body = send("GET", path)
        assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"] and body
        assert "unsafe" not in headers["Content-Security-Policy"]
    loaded = set(re.findall(r'(?:src|href)="([\w.]+)"', send("GET", "/")[2].decode()))
    assert {f"/{name}" for name in loaded} == set(server.FILES) - {"/"}
    for path in ("/server.py", "/../reader.py", "/serve.css/", "/page.html"):
        assert send("GET", path)[0] == 404


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (asking(), {"Content-Type": "text/plain"}, 415, "application/json"),
        (asking(), {"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ("{", JSON, 400, "no JSON object"),
        ("[1]", JSON, 400, "no JSON object"),
        (b"\xff", JSON, 400, "no JSON object"),
        (asking(model=2), JSON, 400, "a `model` of those here"),
        (asking(texts=[]), JSON, 400, "list of `texts`"),
        (asking(texts="text"), JSON, 400, "list of `texts`"),
        (iter([b"{}"]), JSON | {"Transfer-Encoding": "chunked"}, 411, "Content-Length"),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence(body, headers, status, said, send):
    got, kind, content = send("POST", "/answer", body, headers)
    assert (got, kind.get_content_type()) == (status, "application/json") and said in json.loads(content)["error"]
    assert send("POST", "/models", asking(), JSON)[0] == 404


def test_too_long_a_text_is_refused_once_all_of_it_was_sent(send, monkeypatch):
    monkeypatch.setattr(server, "LIMIT", 100_000)
    status, _, body = send("POST", "/answer", asking(texts=["x" * 5_000_000]), JSON)
    assert status == 413 and "5.0 MB" in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("localhost:9000", 200),
        ("127.0.0.1", 200),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_name_that_leads_here_reads_nothing(name, status, send):
    assert send("GET", "/models", headers={"Host": name})[0] == status
    assert send("POST", "/answer", asking(), JSON | {"Host": name})[0] == status


def test_another_host_is_served_by_any_name():
    with served(READER, host="0.0.0.0") as send:
        assert send("GET", "/models", headers={"Host": "node-1:8000"})[0] == 200


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("text 1: its context is empty"), 400, "text 1: its context is empty"),
        (RuntimeError("out of\nluck"), 500, "The model failed: RuntimeError: out of. The terminal"),
        (MemoryError(), 500, "Cannot allocate memory"),
    ],
)
def test_a_fault_of_the_model_is_a_sentence_and_the_next_question_is_answered(error, status, said, monkeypatch):
    reader = StubReader(READER.scores)
    with served(reader) as send:
        with monkeypatch.context() as patch:
            patch.setattr(reader, "answer", lambda question: (_ for _ in ()).throw(error))
            got, _, body = send("POST", "/answer", asking(), JSON)
        assert got == status and said in json.loads(body)["error"] and body.count(b"\\n") == 0
        assert send("POST", "/answer", asking(), JSON)[0] == 200


def test_questions_are_computed_one_at_a_time(monkeypatch):
    reader, running, together = StubReader(READER.scores), threading.Lock(), []

    def answers(questions, top):
        together.append(not running.acquire(blocking=False))
        threading.Event().wait(0.02)  # room for the others to come in
        running.release()
        return map(reader.answer, questions)

    monkeypatch.setattr(reader, "answers", answers)
    with served(reader) as send:
        threads = [threading.Thread(target=send, args=("POST", "/answer", asking(), JSON)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert together == [False] * 4


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What the command sets for its own process is undone after each test."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")


@pytest.fixture
def models(monkeypatch):
    """The command finds a reader at once, and Ctrl-C ends it at once; returns the addresses opened in a browser."""
    opened = []

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "Reader", lambda folder, decoding, threads: READER)
    monkeypatch.setattr(server.Server, "serve_forever", interrupted)
    monkeypatch.setattr(server.webbrowser, "open", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    return opened


def test_the_command_prints_and_opens_the_address_and_ctrl_c_ends_it_in_a_line(models, capsys, monkeypatch):
    assert server.main(["--model", "m", "--port", "0"]) == 0
    first, blank, last = capsys.readouterr().out.splitlines()
    address = re.match(r"http://127\.0\.0\.1:\d+/", first)[0]
    assert (models, blank, last) == ([address], "", "ended")
    assert server.main(["--model", "m", "--port", "0", "--no-browser"]) == 0
    monkeypatch.setenv("SSH_CONNECTION", "1")
    assert server.main(["--model", "m", "--port", "0"]) == 0
    assert models == [address]


def test_a_host_that_others_reach_is_warned_of(models, capsys, caplog):
    assert server.main(["--model", "m", "--port", "0", "--host", "0.0.0.0"]) == 0
    assert "every machine that reaches 0.0.0.0" in caplog.text
    caplog.clear()
    assert server.main(["--model", "m", "--port", "0", "--host", "localhost"]) == 0
    assert not caplog.text


def test_a_port_that_is_taken_and_a_host_that_is_not_here_are_told_in_a_line(models, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert server.main(["--model", "m", "--port", port]) == 1
    assert server.main(["--model", "m", "--port", "0", "--host", "192.0.2.1"]) == 1
    taken, elsewhere = capsys.readouterr().err.splitlines()
    assert taken.startswith(f"error: 127.0.0.1, port {port}: ") and "--port" in taken
    assert elsewhere.startswith("error: 192.0.2.1, port 0: ")
    with pytest.raises(SystemExit):
        server.main(["--model", "m", "--port", "70000"])


def test_a_wrong_model_is_told_before_a_port_is_opened(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(server, "Server", lambda *given: pytest.fail("a port was opened"))
    assert server.main(["--model", str(tmp_path / "none")]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "no such folder" in told
