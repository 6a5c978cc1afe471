"""Asking a model: the answers of the workflow's own stages, from the command line and from Python, or one sentence."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import transformers

import tiny
from qa import ask
from qa.ask import Answer, Question, Reader
from qa.common.errors import InputError
from qa.common.files import read_json, write_json
from qa.data.prepare_questions import convert
from qa.decoding import postprocess
from qa.hub import package
from qa.model import predict
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

SCRIPTS = Path(tiny.__file__).parents[2] / "workflow" / "scripts"
TEXTS = [p["context"] + p["qas"][0]["question"] for p in tiny.squad(30)["data"][0]["paragraphs"]]
PREDICTION = {"batch_size": 4, "candidates": 8, "precision": "fp32", "padding": "packed"}
N_BEST = {"method": "n_best", "n_best_size": 5, "max_answer_length": 9, "null_threshold": -0.1, "temperature": 2.5}
SETTINGS = {
    "run": "r",
    "variant": "seed-1",
    "windows": tiny.WINDOWS,
    "prediction": PREDICTION,
    "decodings": {"n_best": N_BEST, "walkthrough": {"method": "walkthrough"}},
}
CONTEXT = "The mill of Tarnb1 was built in 1301 by Ada Venn. It ground oats for 3 villages."


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that was saved with settings."""
    folder = tiny.save_model(tmp_path_factory.mktemp("run") / "model", TEXTS)
    write_json(folder / package.SETTINGS, SETTINGS)
    return folder


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What the command sets for its own process is undone after each test."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")


@pytest.fixture(scope="module")
def reader(model):
    return Reader(model)


@pytest.fixture
def context(tmp_path):
    path = tmp_path / "context.txt"
    path.write_text(CONTEXT)
    return str(path)


CASES = {
    "n_best": ("n_best", {}, {}, tiny.word_piece),
    "walkthrough": ("walkthrough", {}, {}, tiny.word_piece),
    "the walkthrough's windows": (
        "walkthrough",
        {"long_contexts": "truncate", "labels": "walkthrough", "max_question_length": None},
        {"padding": "max_length", "max_length": 64},
        tiny.word_piece,
    ),
    "padded rows": ("n_best", {}, {"padding": "longest"}, tiny.unigram),
    "bytes as tokens": ("n_best", {"overlap": 8}, {}, tiny.byte_level_bpe),
    "bf16": ("n_best", {}, {"precision": "bf16"}, tiny.word_piece),
}


@pytest.mark.parametrize("case", CASES)
def test_answers_and_scores_are_those_of_the_stages_on_the_same_questions(case, tmp_path):
    name, windows, prediction, family = CASES[case]
    windows, prediction, how = tiny.WINDOWS | windows, PREDICTION | prediction, SETTINGS["decodings"][name]
    folder = tiny.save_model(tmp_path / "model", TEXTS, family=family)
    settings = SETTINGS | {"windows": windows, "prediction": prediction}
    write_json(folder / package.SETTINGS, settings)
    convert([tiny.write_squad(tmp_path / "q.json", questions=20)], tmp_path / "r.parquet")
    tokenize(tmp_path / "r.parquet", load_tokenizer(folder), windows, tmp_path / "windows")
    predict.predict(folder, tmp_path / "windows", prediction, 1, tmp_path / "spans.parquet")
    made = {each: str(tmp_path / f"{each}.json") for each in tiny.OUTPUTS}
    files = [str(tmp_path / "spans.parquet")], tmp_path / "r.parquet"
    calibration = tmp_path / "calibration.json"
    write_json(calibration, {"null_threshold": -0.1, "temperature": 2.5, "no_answer_probability": {}})
    postprocess.postprocess(*files, how, made, calibration if name == "n_best" else None)
    rows = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    found = Reader(folder, name, threads=1).answer_all(Question(r["question"], r["context"], r["id"]) for r in rows)
    assert {each.id: each.text for each in found} == read_json(made["answers"])
    assert {each.id: each.null_score for each in found} == read_json(made["null_scores"])
    listed = parquet.read_table(made["nbest"]).to_pylist()
    assert any(found) or name == "walkthrough"
    for each, row, record in zip(found, listed, rows, strict=True):
        assert each.null_probability == row["null_probability"]
        if each:
            best = row["candidates"][0]
            assert (each.start, each.end, each.probability) == (best["start"], best["stop"], best["probability"])
            assert record["context"][each.start : each.end] == each.text
        else:  # the walkthrough may decide on a span without a character
            decided = row["candidates"][0]["probability"] if name == "walkthrough" and row["candidates"] else None
            assert (each.text, each.start, each.end) == ("", None, None)
            assert each.probability == (decided or row["null_probability"])


def test_questions_asked_one_by_one_or_in_small_batches_get_the_same_answers(reader):
    questions = [(f"When was the mill of {name} built?", CONTEXT * (n + 1)) for n, name in enumerate("abcde")]
    together = reader.answer_all(questions)
    for answer, alone, (question, text) in zip(together, reader.answers(questions, 2), questions, strict=True):
        for other in (alone, reader.answer(question, text)):
            assert (other.text, other.start) == (answer.text, answer.start)
            assert other.null_score == pytest.approx(answer.null_score, abs=1e-5)


def test_a_threshold_decides_between_an_answer_and_silence(model, tmp_path):
    asked = {}
    for threshold in (-1e9, 1e9):
        shutil.copytree(model, folder := tmp_path / str(threshold))
        write_json(folder / package.SETTINGS, SETTINGS | {"decodings": {"n": {**N_BEST, "null_threshold": threshold}}})
        asked[threshold] = (reader := Reader(folder)).answer("Who built it?", CONTEXT)
        assert (reader.null_threshold, reader.temperature) == (threshold, N_BEST["temperature"])
    assert not asked[-1e9] and asked[-1e9].probability == asked[-1e9].null_probability
    assert asked[1e9] and CONTEXT[asked[1e9].start : asked[1e9].end] == asked[1e9].text


def test_offsets_count_characters_of_the_file_as_it_is(model, tmp_path, capsys):
    text = "\r\n\t🏭 mills 東京 café\r\n" + CONTEXT.replace(". ", ".\r\n")
    path = tmp_path / "c.txt"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert ask.main(["--model", str(model), "--context", str(path), "--json", "When was the mill built?"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] and text[found["start"] : found["end"]] == found["answer"]


def asked(capsys, *arguments):
    """The rows that the command prints as JSON."""
    assert ask.main(list(map(str, arguments))) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_command_prints_text_place_and_probability(model, context, reader):
    """In a process of its own, as users call it."""
    expected = reader.answer("When was it built?", CONTEXT)
    command = [sys.executable, "-m", "qa", "ask", "--model", str(model), "--context", context, "When was it built?"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == expected.text
    assert f"characters {expected.start} to {expected.end}, probability {expected.probability:.2f}" in second
    assert f"[{expected.text}]" in third and not done.stderr


def test_questions_from_standard_input_are_answered_line_by_line(model, context, reader, capsys, monkeypatch):
    questions = ["Who built it?", "When was it built?"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([questions[0], "", questions[1]])))
    found = asked(capsys, "--model", model, "--context", context, "--json")
    assert [row["answer"] for row in found] == [a.text for a in reader.answer_all((q, CONTEXT) for q in questions)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(questions)))
    assert ask.main(["--model", str(model), "--context", context]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert all(question in printed for question in questions)


@pytest.mark.parametrize("options", [[], ["--questions", "-"]])
def test_a_byte_order_mark_on_standard_input_is_no_part_of_a_question(options, model, context, reader, monkeypatch):
    typed = "Who built the mill?" if not options else json.dumps({"question": "Who built the mill?"})
    stdin = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + typed.encode()), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", stdin)
    seen = []
    monkeypatch.setattr(Reader, "answers", lambda self, questions, *_: seen.extend(questions) or [])
    assert ask.main(["--model", str(model), "--context", str(context), *options]) == 0
    assert [question.question for question in seen] == ["Who built the mill?"]


def test_json_lines_bring_their_own_contexts_or_share_one(model, context, tmp_path, capsys, monkeypatch):
    lines = [
        {"id": "a", "question": "Who built it?", "context": "Bo Lee built it."},
        {"question": "Who built it?"},
        {"id": 7, "question": "Who?"},
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    found = asked(capsys, "--model", model, "--context", context, "--questions", path)
    assert [row["id"] for row in found] == ["a", "2", "7"]
    assert list(found[0]) == ["id", "answer", "start", "end", "probability", "null_probability", "null_score"]
    for row, text in zip(found, ["Bo Lee built it.", CONTEXT, CONTEXT], strict=True):
        assert row["answer"] == ("" if row["start"] is None else text[row["start"] : row["end"]])
    monkeypatch.setattr(sys, "stdin", io.StringIO(path.read_text()))
    assert asked(capsys, "--model", model, "--context", context, "--questions", "-") == found


@pytest.fixture
def documents(tmp_path):
    """A folder with two texts, one in a folder of its own, and a file that is no text."""
    texts = {"a.txt": CONTEXT, "deep/b.txt": "\r\nBo Lee built the barn in 1412.", "c.md": "not asked"}
    for name, text in texts.items():
        (path := tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return tmp_path / "texts", {name: text for name, text in texts.items() if name.endswith("txt")}


def test_a_folder_is_asked_text_by_text(model, documents, reader, capsys, monkeypatch):
    folder, texts = documents
    command = ("--model", model, "--context", folder)
    for rows, questions in (
        (asked(capsys, *command, "Who built it?"), {"": "Who built it?"}),
        (
            monkeypatch.setattr(sys, "stdin", io.StringIO("Who?\n\nWhen?\n")) or asked(capsys, *command),
            {"1": "Who?", "3": "When?"},
        ),
    ):
        places = [(number, name) for number in questions for name in texts]
        assert [(row["id"], row["document"]) for row in rows] == places
        expected = reader.answer_all((questions[number], texts[name]) for number, name in places)
        assert [row["answer"] for row in rows] == [answer.text for answer in expected]
    (folder / "empty.txt").write_text(" ")
    assert "empty.txt" in mistake(capsys, *command, "Who built it?")
    assert "no .txt files" in mistake(capsys, "--model", model, "--context", model, "Who built it?")


def test_json_lines_may_name_their_documents(model, documents, capsys):
    folder, texts = documents
    lines = [
        {"question": "Who?", "document": "deep/b.txt"},
        {"question": "Who?", "document": "label", "context": texts["a.txt"]},
    ]
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    named = asked(capsys, "--model", model, "--questions", folder / "q.jsonl")
    assert [row["document"] for row in named] == ["deep/b.txt", "label"]
    whole = texts["deep/b.txt"]
    assert named[0]["answer"] == ("" if named[0]["start"] is None else whole[named[0]["start"] : named[0]["end"]])
    (folder.parent / "q.jsonl").write_text("\n".join(map(json.dumps, [*lines, {"question": "Who?"}])))
    more = asked(capsys, "--model", model, "--context", folder, "--questions", folder.parent / "q.jsonl")
    assert more[:2] == named and [row["document"] for row in more[2:]] == list(texts)
    for line, said in (
        ({"question": "q", "document": "none.txt"}, "none.txt: no such file"),
        ({"question": "q"}, "line 1: its `context` or `document` is missing"),
        ({"question": "q", "document": 3}, "line 1: its `document` is missing, empty or no text"),
    ):
        (folder / "q.jsonl").write_text(json.dumps(line))
        assert said in mistake(capsys, "--model", model, "--questions", folder / "q.jsonl")


@pytest.mark.parametrize("threshold", [-1e9, 1e9])
def test_the_most_probable_spans_come_best_first_whether_the_question_is_answered_or_not(
    threshold, model, context, tmp_path, capsys
):
    shutil.copytree(model, folder := tmp_path / "m")
    write_json(folder / package.SETTINGS, SETTINGS | {"decodings": {"n": {**N_BEST, "null_threshold": threshold}}})
    command = ("--model", folder, "--context", context, "--top")
    (row,) = asked(capsys, *command, 3, "--json", "Who built it?")
    spans = row["candidates"]
    assert len(spans) == 3 and all(CONTEXT[span["start"] : span["end"]] == span["answer"] for span in spans)
    sure = [span["probability"] for span in spans]
    assert sure == sorted(sure, reverse=True) and sum(sure) + row["null_probability"] <= 1 + 1e-9
    assert bool(row["answer"]) == (threshold > 0)
    if row["answer"]:
        assert spans[0] == {name: row[name] for name in ("answer", "start", "end", "probability")}
    (more,) = asked(capsys, *command, 99, "--json", "Who built it?")
    assert more["candidates"][:3] == spans and len(more["candidates"]) == N_BEST["n_best_size"]
    assert ask.main(list(map(str, [*command, 3, "Who built it?"]))) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[-3:]] == ["1.", "2.", "3."] and spans[2]["answer"] in shown[-1]


def test_text_that_would_steer_a_terminal_is_shown_without_its_controls():
    text = "a\x1b[2Jb\x07 1412\u202e c"
    place = text.index("1412")
    shown = ask.as_text(Question("x\x1by", text), Answer("", "1412", place, place + 4, 0.5, 0.1, -1.0), several=True)
    assert "[1412]" in shown and not [letter for letter in shown if not letter.isprintable() and letter != "\n"]


def test_no_answer_is_said_with_its_probability():
    shown = ask.as_text(Question("q", "c"), Answer("", "", None, None, 0.875, 0.875, 3.0))
    assert shown == "no answer (probability 0.88 that there is none)"


def test_no_socket_is_opened(model, context, monkeypatch):
    import socket

    def refuse(*given):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert ask.main(["--model", str(model), "--context", context, "Who built it?"]) == 0


def mistake(capsys, *arguments) -> str:
    """What is said of a mistake: one line on stderr, exit code 1, nothing on stdout."""
    assert ask.main(list(map(str, arguments))) == 1
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith("error: ") and printed.err.count("\n") == 1, printed.err
    return printed.err


def test_a_folder_that_is_no_model_for_this_is_named(model, context, tmp_path, capsys):
    asked = ("--context", context, "q")
    assert "no such folder" in mistake(capsys, "--model", tmp_path / "nowhere", *asked)
    assert "a folder without a model" in mistake(capsys, "--model", tmp_path, *asked)
    shutil.copytree(model, tmp_path / "pickled")
    (tmp_path / "pickled/model.safetensors").rename(tmp_path / "pickled/pytorch_model.bin")
    assert "cannot be loaded" in mistake(capsys, "--model", tmp_path / "pickled", *asked)
    shutil.copytree(model, tmp_path / "broken")
    (tmp_path / "broken" / package.SETTINGS).write_text("{}")
    assert "no settings that this workflow wrote" in mistake(capsys, "--model", tmp_path / "broken", *asked)
    assert "no decoding `x`; it has n_best, walkthrough" in mistake(
        capsys, "--model", model, "--decoding", "x", "--context", context, "q"
    )


def test_a_model_without_a_trained_head_is_refused(context, tmp_path, capsys):
    from transformers import AutoModel

    folder = tiny.save_model(tmp_path / "bare", TEXTS)
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    (folder / package.SETTINGS).write_text(json.dumps(SETTINGS))
    assert "not fine-tuned for question answering" in mistake(capsys, "--model", folder, "--context", context, "q")


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfe", "not UTF-8 text"), (b" \n", "it is empty"), (None, "no such file")]
)
def test_a_context_that_cannot_be_read_is_named(content, said, model, tmp_path, capsys):
    path = tmp_path / "c.txt"
    if content is not None:
        path.write_bytes(content)
    message = mistake(capsys, "--model", model, "--context", path, "q")
    assert said in message and str(path) in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not an object"),
        ('{"question": " "}', "line 2: its `question` is missing, empty or no text"),
        ('{"question": "q", "context": 3}', "line 2: its `context` is missing, empty or no text"),
    ],
)
def test_a_line_that_is_no_question_is_named_by_its_number(line, said, model, context, tmp_path, capsys):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "q"}\n' + line + "\n")
    assert said in mistake(capsys, "--model", model, "--context", context, "--questions", path)


def test_an_empty_question_and_none_at_all_are_mistakes(model, context, capsys, monkeypatch, reader):
    assert "the question is empty" in mistake(capsys, "--model", model, "--context", context, "  ")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    assert "standard input holds no question" in mistake(capsys, "--model", model, "--context", context)
    for question, text, said in (("", CONTEXT, "question is empty"), ("q", "", "context is empty")):
        with pytest.raises(InputError, match=said):
            reader.answer(question, text)
    with pytest.raises(InputError, match="half a surrogate pair"):
        reader.answer("q", "a \ud800 b")


def test_a_model_without_settings_is_asked_by_the_workflows_defaults_and_says_so(context, tmp_path, capsys, caplog):
    folder = tiny.save_model(tmp_path / "m", TEXTS)
    assert ask.main(["--model", str(folder), "--context", context, "Who built it?"]) == 0
    assert "no qa_settings.json" in caplog.text and capsys.readouterr().out


@pytest.mark.parametrize("positions", [64, 128])
def test_a_model_of_short_rows_without_settings_reads_long_contexts_in_short_windows(positions, tmp_path):
    folder = tiny.save_model(tmp_path / "foreign", TEXTS)
    config = read_json(folder / "config.json") | {"max_position_embeddings": positions}
    model = transformers.BertForQuestionAnswering(transformers.BertConfig(**config))
    model.save_pretrained(folder)
    answer = Reader(folder).answer("When was the mill built?", " ".join([CONTEXT] * 40))
    assert answer.null_probability < 1


def test_a_precision_that_this_machine_lacks_is_replaced_and_said(model, tmp_path, caplog):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which has fp16")
    shutil.copytree(model, tmp_path / "m")
    write_json(tmp_path / "m" / package.SETTINGS, SETTINGS | {"prediction": PREDICTION | {"precision": "fp16"}})
    reader = Reader(tmp_path / "m")
    assert "fp32 is used here" in caplog.text
    assert reader.answer("Who?", CONTEXT) == Reader(model).answer("Who?", CONTEXT)


def test_a_models_package_tells_what_was_calibrated_since_unless_it_is_of_other_weights(model, tmp_path):
    before = SETTINGS | {"decodings": {"n_best": {**N_BEST, "null_threshold": "calibrated"}}}
    shutil.copytree(model, tmp_path / "model")
    write_json(tmp_path / "model" / package.SETTINGS, before)
    with pytest.raises(InputError, match=r"not calibrated yet.*package"):
        Reader(tmp_path / "model")
    shutil.copytree(model, tmp_path / "package")
    assert Reader(tmp_path / "model").settings == SETTINGS
    tiny.save_model(tmp_path / "package", [*TEXTS, "other words entirely, zyx"], dropout=0.2, family=tiny.unigram)
    with pytest.raises(InputError, match="not calibrated yet"):
        Reader(tmp_path / "model")


def test_what_the_machine_lacks_is_told_in_one_line(monkeypatch, capsys):
    def fails(options):
        raise RuntimeError("cannot load") from OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(ask, "_run", fails)
    assert ask.main(["--model", "m", "--context", "c", "Who?"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "ulimit -n" in said and said.count("\n") == 1
