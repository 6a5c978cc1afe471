"""Downloads through the real client against a stand-in hub on loopback, with the faults that networks have."""

import errno
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from qa.errors import InputError
from qa.hub import fetch_dataset, fetch_model, matching_files, model_files
from stand_in_hub import StandInHub

huggingface_hub = pytest.importorskip("huggingface_hub")

COMMIT, OTHER_COMMIT = "0123456789abcdef" * 2 + "01234567", "f" * 40
REPO = {"repo": "someone/tiny", "revision": COMMIT}
WEIGHTS = bytes(range(256)) * 1024  # 256 KiB: more than one read of a socket
MODEL = {
    "config.json": b'{"model_type": "roberta"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b'{"version": "1.0"}',
    "merges.txt": b"",
    "vocab.json": b'{"a": 0}',
}
UNWANTED = {
    "README.md": b"# tiny",
    "modeling_tiny.py": b"raise SystemExit",
    "model.fp16.safetensors": b"another precision",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "training_args.bin": b"pickle",
    "tf_model.h5": b"h5",
}
QUICK = (0.01, 0.02)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with StandInHub() as stand_in:
        stand_in.add_repo("model", "someone/tiny", COMMIT, MODEL | UNWANTED)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "10")
        yield stand_in
        huggingface_hub.close_session()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "tiny"


def aside_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(call, *args, **kwargs) -> str:
    """The message of the InputError that `call` raises, which is one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and caught.value.__suppress_context__ == (caught.value.__context__ is not None)
    return message


def in_another_process(target: Path, source=REPO, **environment: str) -> subprocess.Popen:
    code = (
        "import json, sys; from qa.hub import fetch_model; fetch_model(json.loads(sys.argv[1]), sys.argv[2], (0.01,))"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(source), str(target)],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.01)


# what is fetched


def test_a_model_is_its_config_tokenizer_and_safetensors_files_and_nothing_else(hub, target):
    fetch_model(REPO, target, QUICK)
    found = contents(target)
    del found["source.json"]
    assert found == MODEL
    assert [p.name for p in target.parent.iterdir()] == ["tiny"]


def test_source_json_says_whence_when_and_which_bytes(hub, target):
    source = fetch_model(REPO, target, QUICK)
    assert source == json.loads((target / "source.json").read_text())
    assert {key: source[key] for key in ("kind", "repo", "revision")} == {"kind": "model", **REPO}
    assert source["files"] == {
        name: {"sha256": sha256(content).hexdigest(), "size": len(content)} for name, content in MODEL.items()
    }
    moment = datetime.fromisoformat(source["downloaded"])
    assert moment.utcoffset() == UTC.utcoffset(None) and abs((datetime.now(UTC) - moment).total_seconds()) < 60


def test_shards_are_those_that_the_index_names(hub, target):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    shards = {"model-00001-of-00002.safetensors": b"1" * 100, "model-00002-of-00002.safetensors": b"2" * 100}
    stray = {"model-00003-of-00003.safetensors": b"3"}
    files = {name: MODEL[name] for name in ("config.json", "vocab.json")}
    files |= shards | {"model.safetensors.index.json": json.dumps(index).encode()}
    hub.add_repo("model", "someone/sharded", COMMIT, files | stray | UNWANTED)
    source = fetch_model({"repo": "someone/sharded", "revision": COMMIT}, target, QUICK)
    assert set(source["files"]) == set(files)
    assert contents(target).items() >= files.items()


@pytest.mark.parametrize(
    "index, said",
    [
        (b'{"weight_map": {"a": "model-00009-of-00009.safetensors"}}', "model-00009-of-00009.safetensors"),
        (b'{"weight_map": {"a": "pytorch_model.bin"}}', "pytorch_model.bin"),
        (b'{"weight_map": {"a": "../config.json"}}', "../config.json"),
        (b'{"metadata": {}}', "weight_map"),
        (b"[]", "weight_map"),
        (b"{", "not JSON"),
    ],
)
def test_an_index_that_names_no_safetensors_beside_it_is_refused(hub, target, index, said):
    files = {"config.json": b"{}", "vocab.txt": b"a", "pytorch_model.bin": b"p", "model.safetensors.index.json": index}
    hub.add_repo("model", "someone/sharded", COMMIT, files)
    assert said in refusal(fetch_model, {"repo": "someone/sharded", "revision": COMMIT}, target, QUICK)
    assert not target.exists()


def test_one_safetensors_file_is_preferred_to_shards():
    names = ["config.json", "vocab.txt", "model.safetensors", "model.safetensors.index.json"]
    assert model_files(names, "here") == ["config.json", "vocab.txt", "model.safetensors"]


def test_pickled_weights_alone_are_refused_with_a_way_out(hub, target):
    files = {name: content for name, content in (MODEL | UNWANTED).items() if not name.endswith(".safetensors")}
    hub.add_repo("model", "someone/old", COMMIT, files)
    message = refusal(fetch_model, {"repo": "someone/old", "revision": COMMIT}, target, QUICK)
    assert "someone/old" in message and "pytorch_model.bin" in message and "refs/pr/" in message
    assert not hub.asked("*/resolve/*") and not target.parent.exists()


@pytest.mark.parametrize("missing, said", [("config.json", "config.json"), ("tokenizer", "vocab.txt")])
def test_a_missing_config_or_tokenizer_is_named(hub, target, missing, said):
    names = ["config.json", "tokenizer_config.json", "vocab.json", "model.safetensors"]
    dropped = {"config.json"} if missing == "config.json" else {"vocab.json"}
    hub.add_repo("model", "someone/half", COMMIT, {name: b"{}" for name in names if name not in dropped})
    message = refusal(fetch_model, {"repo": "someone/half", "revision": COMMIT}, target, QUICK)
    assert said in message and "someone/half" in message


def test_data_files_are_matched_by_pattern_and_kept_in_order(hub, tmp_path):
    names = ["v2/train-00001-of-00002.parquet", "v2/train-00000-of-00002.parquet", "v2/dev.parquet", "v1/dev.parquet"]
    hub.add_repo("dataset", "someone/squad", COMMIT, {name: name.encode() for name in [*names, "README.md"]})
    splits = {"train": "v2/train-*.parquet", "dev": ["v2/dev.parquet", "v1/*.parquet", "*/dev.parquet"]}
    source = fetch_dataset({"repo": "someone/squad", "revision": COMMIT, "splits": splits}, tmp_path / "data", QUICK)
    assert source["splits"] == {
        "train": ["train/00000-train-00000-of-00002.parquet", "train/00001-train-00001-of-00002.parquet"],
        "dev": ["dev/00000-dev.parquet", "dev/00001-dev.parquet"],
    }
    assert (tmp_path / "data" / "dev" / "00000-dev.parquet").read_bytes() == b"v2/dev.parquet"
    assert (tmp_path / "data" / "dev" / "00001-dev.parquet").read_bytes() == b"v1/dev.parquet"
    first = source["files"]["train/00000-train-00000-of-00002.parquet"]
    assert first["from"] == "v2/train-00000-of-00002.parquet"
    assert first["sha256"] == sha256(b"v2/train-00000-of-00002.parquet").hexdigest()
    assert source["kind"] == "dataset" and source["repo"] == "someone/squad" and source["revision"] == COMMIT
    assert set(contents(tmp_path / "data")) == {*source["files"], "source.json"}


def test_a_pattern_without_a_match_lists_what_there_is(hub, tmp_path):
    hub.add_repo("dataset", "someone/squad", COMMIT, {"plain/dev.parquet": b"d", "plain/train.parquet": b"t"})
    source = {"repo": "someone/squad", "revision": COMMIT, "splits": {"dev": "validation*.parquet"}}
    message = refusal(fetch_dataset, source, tmp_path / "data", QUICK)
    assert "'validation*.parquet'" in message and "plain/dev.parquet" in message and "split dev" in message


def test_a_name_with_brackets_matches_itself():
    assert matching_files(["dev[1].json"], ["dev1.json", "dev[1].json"], "here") == ["dev1.json", "dev[1].json"]


def test_a_split_may_not_lead_out_of_the_folder(tmp_path):
    assert "../dev" in refusal(fetch_dataset, {"splits": {"../dev": "x.json"}}, tmp_path / "data")


# faults that pass


def test_a_server_error_that_passes_is_retried_with_growing_waits(hub, target, caplog):
    hub.fail("/api/*", status=500, times=1)
    hub.fail("*/resolve/*/config.json", status=503, times=2)
    with caplog.at_level(logging.INFO):
        fetch_model(REPO, target, QUICK)
    said = [r.getMessage() for r in caplog.records if r.name == "qa.downloads" and r.levelno == logging.WARNING]
    assert [re.match(r"attempt \d of \d in [\d.]+ s", line).group() for line in said] == [
        "attempt 2 of 3 in 0.01 s",
        "attempt 2 of 3 in 0.01 s",
        "attempt 3 of 3 in 0.02 s",
    ]
    assert "someone/tiny" in said[1] and "config.json" in said[1] and "503" in said[1]
    assert contents(target).items() >= MODEL.items()


def test_a_server_error_that_lasts_ends_after_the_attempts_given(hub, target):
    hub.fail("*/resolve/*/tokenizer.json", status=503)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert "tokenizer.json" in message and "503" in message and "3 attempts" in message and COMMIT[:12] in message
    assert len(hub.asked("*/resolve/*/tokenizer.json")) == 3
    assert not target.exists()


def test_too_many_requests_are_retried_and_then_say_what_helps(hub, target):
    hub.fail("/api/*", status=429)
    assert "HF_TOKEN" in refusal(fetch_model, REPO, target, QUICK)
    assert len(hub.requests) == 3


def test_a_cut_transfer_asks_only_for_the_missing_bytes(hub, target):
    hub.fail("*model.safetensors", truncate=100_000, times=1)
    fetch_model(REPO, target, QUICK)
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert [request.range for request in hub.asked("/storage/*")] == [None, "bytes=100000-"]


def test_a_cut_transfer_of_a_file_that_the_hub_itself_sends_resumes_too(hub, target):
    hub.fail("*/config.json", truncate=5, times=1)
    fetch_model(REPO, target, QUICK)
    assert (target / "config.json").read_bytes() == MODEL["config.json"]
    assert [request.range for request in hub.asked("*/tiny/resolve/*/config.json")] == [None, "bytes=5-"]


def test_a_server_without_ranges_is_read_from_the_start_again(hub, target):
    hub.ranges = False
    hub.fail("*model.safetensors", truncate=100_000, times=1)
    fetch_model(REPO, target, QUICK)
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert [(request.range, request.status) for request in hub.asked("/storage/*")][1:] == [("bytes=100000-", 200)]


def test_wrong_bytes_are_dropped_and_fetched_again(hub, target):
    hub.fail("*model.safetensors", wrong=True, times=1)
    hub.fail("*/config.json", wrong=True, times=1)
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()
    assert [request.range for request in hub.asked("/storage/*")] == [None, None]


@pytest.mark.parametrize(
    "name, kind", [("model.safetensors", "sha256"), ("config.json", "git sha1")], ids=["large", "small"]
)
def test_bytes_that_stay_wrong_are_refused_with_both_hashes(hub, target, name, kind):
    hub.fail(f"*/{name}", wrong=True)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert name in message and re.search(rf"{kind} [0-9a-f]{{40,64}} where [0-9a-f]{{40,64}} is expected", message)
    assert not target.exists() and not list(aside_of(target).glob(f"{name}*"))


def test_a_connection_that_hangs_is_given_up_in_time(hub, target, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.fail("*/config.json", hang=30)
    start = time.monotonic()
    message = refusal(fetch_model, REPO, target, (0.01,))
    assert time.monotonic() - start < 6
    assert "config.json" in message and "2 attempts" in message and "login node" in message
    assert not target.exists()


def test_a_transfer_that_hangs_in_the_middle_resumes_there(hub, target, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.fail("*model.safetensors", truncate=100_000, hang=30, times=1)
    fetch_model(REPO, target, QUICK)
    assert [request.range for request in hub.asked("/storage/*")] == [None, "bytes=100000-"]
    assert (target / "model.safetensors").read_bytes() == WEIGHTS


# faults that do not pass


@pytest.mark.parametrize(
    "path", ["/api/models/*", "*/resolve/*/config.json", "/storage/*"], ids=["listing", "file", "storage"]
)
@pytest.mark.parametrize(
    "status, code, said",
    [
        (401, "GatedRepo", "is gated: accept its terms at http://127.0.0.1:"),
        (403, "GatedRepo", "then set HF_TOKEN"),
        (401, "RepoNotFound", "or it is private: check the name, or set HF_TOKEN"),
        (404, "RepoNotFound", "has no model someone/tiny"),
        (404, "RevisionNotFound", f"has no commit {COMMIT}"),
        (401, None, "HF_TOKEN"),
        (403, None, "HF_TOKEN"),
        (404, "EntryNotFound", "status 404"),
        (410, None, "status 410"),
        (400, None, "status 400"),
    ],
)
def test_a_refusal_is_said_at_once_and_never_retried(hub, target, path, status, code, said):
    hub.fail(path, status=status, error_code=code)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert said in message and "someone/tiny" in message
    assert len(hub.asked(path)) == 1 and not target.exists()


def test_a_repository_or_revision_that_the_hub_does_not_know_is_named(hub, target, tmp_path):
    assert "no model someone/else" in refusal(fetch_model, {"repo": "someone/else", "revision": COMMIT}, target)
    assert OTHER_COMMIT in refusal(fetch_model, {"repo": "someone/tiny", "revision": OTHER_COMMIT}, target)
    source = {"repo": "someone/tiny", "revision": COMMIT, "splits": {"dev": "*"}}
    assert "no dataset someone/tiny" in refusal(fetch_dataset, source, tmp_path / "data")
    assert not target.parent.exists()


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:12], COMMIT.upper(), ""])
def test_a_revision_that_can_move_is_refused_before_any_request(hub, target, revision):
    message = refusal(fetch_model, {"repo": "someone/tiny", "revision": revision}, target)
    assert repr(revision) in message and "/someone/tiny/commits/main" in message
    assert not hub.requests


def test_an_answer_for_another_commit_is_refused(hub, target):
    hub.add_repo("model", "someone/moved", COMMIT, MODEL, commit=OTHER_COMMIT)
    assert OTHER_COMMIT in refusal(fetch_model, {"repo": "someone/moved", "revision": COMMIT}, target)


@pytest.mark.parametrize("repo", ["a/b/c", "someone/ti ny", "-x"])
def test_a_name_that_no_repository_can_have_is_named(hub, target, repo):
    assert repr(repo) in refusal(fetch_model, {"repo": repo, "revision": COMMIT}, target, QUICK)


@pytest.mark.parametrize("body", [b"<html>log in to the network</html>", b"{}", b"[]"], ids=["page", "empty", "list"])
def test_a_server_that_is_no_hub_is_called_so(hub, target, body):
    hub.fail("/api/*", status=200, body=body)
    assert "HF_ENDPOINT" in refusal(fetch_model, REPO, target, QUICK)


def test_an_endpoint_or_timeout_that_makes_no_sense_is_named(hub, target, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "half a minute")
    assert "HF_HUB_DOWNLOAD_TIMEOUT is 'half a minute'" in refusal(fetch_model, REPO, target)
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    assert "HF_ENDPOINT is 'mirror.example'" in refusal(fetch_model, REPO, target)


def test_without_a_network_one_sentence_points_to_the_login_node(target, monkeypatch):
    with StandInHub() as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert "someone/tiny" in message and "127.0.0.1" in message and "login node" in message
    assert not target.exists()


def test_offline_mode_is_respected_and_named(hub, target):
    process = in_another_process(target, HF_HUB_OFFLINE="1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "HF_HUB_OFFLINE" in said.splitlines()[-1] and "InputError" in said
    assert not hub.requests


# the disk


def test_too_little_free_space_is_said_before_the_first_file(hub, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    message = refusal(fetch_model, REPO, target, QUICK)
    needed = sum(len(content) for content in MODEL.values())
    assert f"{needed:,} bytes" in message and "1,000 bytes are free" in message and str(target.parent) in message
    assert not hub.asked("*/resolve/*") and not target.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_one_sentence_and_is_not_retried(hub, target):
    hub.fail("*model.safetensors", status=500)
    refusal(fetch_model, REPO, target, ())
    hub.heal()
    (aside_of(target) / "model.safetensors.part").symlink_to("/dev/full")
    message = refusal(fetch_model, REPO, target, QUICK)
    assert "full" in message and str(target) in message
    assert len(hub.asked("/storage/*")) == 1 and not target.exists()


def test_a_quota_that_is_used_up_says_so(tmp_path, monkeypatch):
    (tmp_path / "dev.json").write_text("{}")

    def out_of_quota(*_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(shutil, "copyfile", out_of_quota)
    source = {"splits": {"dev": str(tmp_path / "dev.json")}}
    assert "quota" in refusal(fetch_dataset, source, tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()] == ["dev.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(hub, target):
    target.parent.mkdir(mode=0o500)
    assert str(target.parent) in refusal(fetch_model, REPO, target, QUICK)


# the next attempt


def test_the_next_call_fetches_only_what_is_not_there_yet(hub, target):
    hub.fail("*model.safetensors", truncate=100_000)
    refusal(fetch_model, REPO, target, ())
    assert not target.exists()
    hub.heal()
    hub.requests.clear()
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()
    assert [(request.range, request.status) for request in hub.asked("/storage/*")] == [("bytes=100000-", 206)]
    assert {request.path.rsplit("/")[-1] for request in hub.asked("*/resolve/*")} == {"model.safetensors"}


def test_a_file_that_was_damaged_in_between_is_fetched_again(hub, target):
    hub.fail("*model.safetensors", status=500)
    refusal(fetch_model, REPO, target, ())
    hub.heal()
    (aside_of(target) / "config.json").write_bytes(MODEL["config.json"].swapcase())
    (aside_of(target) / "model.safetensors.part").write_bytes(b"x" * (len(WEIGHTS) + 1))
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()


def test_a_killed_process_leaves_bytes_that_the_next_one_resumes_from(hub, target):
    hub.fail("*model.safetensors", truncate=200_000, hang=60, times=1)
    process = in_another_process(target)
    part = aside_of(target) / "model.safetensors.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    process.kill()
    process.communicate(timeout=20)
    had = part.stat().st_size
    assert not target.exists() and 0 < had <= 200_000
    fetch_model(REPO, target, QUICK)
    assert [request.range for request in hub.asked("/storage/*")] == [None, f"bytes={had}-"]
    assert contents(target).items() >= MODEL.items()


def test_what_is_left_of_another_revision_is_not_used(hub, target):
    hub.fail("*model.safetensors", truncate=100_000)
    refusal(fetch_model, REPO, target, ())
    hub.heal()
    newer = {"config.json": MODEL["config.json"], "vocab.txt": b"a", "model.safetensors": WEIGHTS[::-1]}
    hub.add_repo("model", "someone/tiny", OTHER_COMMIT, newer)
    source = fetch_model({"repo": "someone/tiny", "revision": OTHER_COMMIT}, target, QUICK)
    assert source["revision"] == OTHER_COMMIT
    assert set(contents(target)) == {*newer, "source.json"} and contents(target).items() >= newer.items()
    assert hub.asked("/storage/*")[-1].range is None


def test_a_failure_leaves_the_folder_of_before_as_it_was_and_a_success_replaces_it(hub, target):
    target.mkdir(parents=True)
    (target / "old.txt").write_text("old")
    hub.fail("*model.safetensors", status=404)
    refusal(fetch_model, REPO, target, QUICK)
    assert contents(target) == {"old.txt": b"old"}
    hub.heal()
    fetch_model(REPO, target, QUICK)
    assert set(contents(target)) == {*MODEL, "source.json"}


# secrets


@pytest.mark.parametrize("fault", [None, "gated", "refused", "wrong", "cut", "page"])
def test_the_token_goes_to_the_hub_only_and_shows_nowhere(hub, target, caplog, capfd, monkeypatch, fault):
    token = "hf_marker_of_a_secret"
    monkeypatch.setenv("HF_TOKEN", token)
    orders = {
        "gated": {"status": 403, "error_code": "GatedRepo"},
        "refused": {"status": 401},
        "wrong": {"wrong": True},
        "cut": {"truncate": 10},
        "page": {"status": 400},
    }
    if fault:
        hub.fail("/storage/*", **orders[fault])
    with caplog.at_level(logging.DEBUG):
        message = refusal(fetch_model, REPO, target, QUICK) if fault else ""
        if not fault:
            fetch_model(REPO, target, QUICK)
    hub_requests = [request for request in hub.requests if not request.path.startswith("/storage/")]
    assert hub_requests and all(request.headers["authorization"] == f"Bearer {token}" for request in hub_requests)
    assert hub.asked("/storage/*") and not any("authorization" in r.headers for r in hub.asked("/storage/*"))
    written = b"".join(path.read_bytes() for path in target.parent.rglob("*") if path.is_file()).decode("latin-1")
    # httpcore's debug lines, which no workflow turns on, hold addresses but hide the token
    own = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpcore"))
    output = "".join(capfd.readouterr())
    assert token not in caplog.text + output + message + written
    assert "stand-in-signature" not in own + message + written


def test_a_password_in_the_address_of_a_mirror_is_not_repeated(hub, target, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("//", "//user:secret@"))
    hub.fail("*/config.json", status=403, error_code="GatedRepo")
    message = refusal(fetch_model, REPO, target, QUICK)
    assert f"{hub.url}/someone/tiny" in message and "secret" not in message


# folders, packages and files of this machine


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "own"
    for name, content in (MODEL | UNWANTED).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_local_model_is_copied_and_hashed(folder, target):
    source = fetch_model({"path": str(folder)}, target)
    assert (source["kind"], source["path"]) == ("model", str(folder)) and "revision" not in source
    assert source["files"]["model.safetensors"] == {"sha256": sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)}
    assert set(contents(target)) == {*MODEL, "source.json"} and contents(target).items() >= MODEL.items()


def test_links_in_a_local_model_are_followed_to_their_content(folder, target, tmp_path):
    (tmp_path / "blob").write_bytes(WEIGHTS)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blob")
    fetch_model({"path": str(folder)}, target)
    assert not (target / "model.safetensors").is_symlink()
    assert (target / "model.safetensors").read_bytes() == WEIGHTS


def test_a_link_that_leads_nowhere_is_named(folder, target):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("nowhere")
    assert str(folder / "model.safetensors") in refusal(fetch_model, {"path": str(folder)}, target)
    assert not target.exists() and not aside_of(target).exists()


def test_a_folder_that_is_missing_or_holds_pickles_only_is_refused(folder, target, tmp_path):
    assert "nowhere" in refusal(fetch_model, {"path": str(tmp_path / "nowhere")}, target)
    (folder / "model.safetensors").unlink()
    message = refusal(fetch_model, {"path": str(folder)}, target)
    assert str(folder) in message and "pytorch_model.bin" in message


@pytest.fixture
def package(tmp_path, monkeypatch, folder):
    """A distribution `some-models` 1.2 that ships the folder `some_models/tiny`; importing it would fail."""
    site = tmp_path / "site"
    folder.rename(folder.with_name("tiny"))
    (site / "some_models").mkdir(parents=True)
    (site / "some_models" / "__init__.py").write_text("raise RuntimeError('imported')")
    folder.with_name("tiny").rename(site / "some_models" / "tiny")
    (site / "some_models-1.2.dist-info").mkdir()
    (site / "some_models-1.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-models\nVersion: 1.2\n"
    )
    monkeypatch.syspath_prepend(site)
    return {"package": "some-models", "directory": "some_models/tiny"}


def test_a_model_that_a_package_ships_is_taken_without_importing_it(package, target):
    source = fetch_model(package, target)
    assert source.items() >= {"kind": "model", **package, "version": "1.2"}.items()
    assert contents(target).items() >= MODEL.items()


def test_a_package_that_is_missing_or_lacks_the_folder_is_named(package, target):
    missing = {"package": "no-such-models", "directory": "x"}
    assert "pip install no-such-models" in refusal(fetch_model, missing, target)
    message = refusal(fetch_model, package | {"directory": "some_models/huge"}, target)
    assert "some_models/huge" in message and "some-models 1.2" in message


def test_local_data_files_are_copied_in_the_order_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/train.json.gz", "a/train.json.gz", "dev.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    splits = {"train": ["b/train.json.gz", "a/train.json.gz"], "dev": str(tmp_path / "dev.json")}
    source = fetch_dataset({"splits": splits}, Path("data/own"))
    assert source["splits"]["train"] == ["train/00000-train.json.gz", "train/00001-train.json.gz"]
    assert source["files"]["train/00000-train.json.gz"]["from"] == "b/train.json.gz"
    assert Path("data/own/train/00000-train.json.gz").read_text() == "b/train.json.gz"
    assert Path("data/own/dev/00000-dev.json").read_text() == "dev.json"


def test_a_missing_data_file_is_named(tmp_path):
    (tmp_path / "train.json").write_text("{}")
    splits = {"train": str(tmp_path / "train.json"), "dev": str(tmp_path / "dev.json")}
    assert str(tmp_path / "dev.json") in refusal(fetch_dataset, {"splits": splits}, tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()] == ["train.json"]


# the stand-in


def test_the_stand_in_serves_the_clients_own_download_too(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    hub.add_repo("dataset", "someone/squad", COMMIT, {"plain/dev.parquet": WEIGHTS})
    options = {"revision": COMMIT, "endpoint": hub.url, "local_dir": tmp_path}
    for name in ("config.json", "model.safetensors"):
        path = huggingface_hub.hf_hub_download("someone/tiny", name, **options)
        assert Path(path).read_bytes() == MODEL[name]
    path = huggingface_hub.hf_hub_download("someone/squad", "plain/dev.parquet", repo_type="dataset", **options)
    assert Path(path).read_bytes() == WEIGHTS
