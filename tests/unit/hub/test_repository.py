"""Faults of networks, servers and disks during downloads: recovered from, or told in one sentence."""

import errno
import logging
import os
import re
import shutil

import huggingface_hub
import pytest

from qa.hub.download import fetch_dataset, fetch_model
from qa.hub.repository import SNAPSHOT
from small_hub import (
    COMMIT,
    MODEL,
    OTHER_COMMIT,
    QUICK,
    REPO,
    WEIGHTS,
    aside_of,
    contents,
    in_another_process,
    refusal,
    wait_until,
)
from stand_in_hub import StandInHub

# faults that pass


def test_a_server_error_that_passes_is_retried_with_growing_waits(hub, target, caplog):
    hub.fail("/api/models/*/revision/*", status=500, times=2)
    with caplog.at_level(logging.INFO):
        fetch_model(REPO, target, QUICK)
    said = [r.getMessage() for r in caplog.records if r.name == "qa.hub.repository" and r.levelno == logging.WARNING]
    assert [re.match(r"attempt \d of \d in [\d.]+ s", line).group() for line in said] == [
        "attempt 2 of 3 in 0.01 s",
        "attempt 3 of 3 in 0.02 s",
    ]
    assert "someone/tiny" in said[1] and "500" in said[1]
    assert contents(target).items() >= MODEL.items()


@pytest.mark.parametrize("path", ["*/resolve/*/config.json", "/storage/*", "/api/models/*/tree/*"])
def test_a_server_error_between_two_files_passes(hub, target, path):
    hub.fail(path, status=503, times=2)
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()


def test_a_server_error_that_lasts_ends_after_the_attempts_given(hub, target):
    hub.fail("*/resolve/*/tokenizer.json", status=503)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert "tokenizer.json" in message and "503" in message and "3 attempts" in message and COMMIT[:12] in message
    assert not target.exists()


def test_too_many_requests_are_retried_and_then_say_what_helps(hub, target):
    hub.fail("/api/*", status=429)
    assert "HF_TOKEN" in refusal(fetch_model, REPO, target, QUICK)
    assert len(hub.requests) == 3


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_cut_transfer_is_asked_for_again(hub, target, name, ranges):
    hub.ranges = ranges
    hub.fail(f"*/{name}", truncate=len(MODEL[name]) // 2, times=2)
    fetch_model(REPO, target, ())
    assert contents(target).items() >= MODEL.items()


def test_wrong_bytes_are_dropped_and_fetched_again(hub, target):
    hub.fail("*model.safetensors", wrong=True, times=1)
    hub.fail("*/config.json", wrong=True, times=1)
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()
    assert len(hub.asked("/storage/*")) == 2 and len(hub.asked("*/resolve/*/vocab.json")) == 1


@pytest.mark.parametrize(
    "name, kind", [("model.safetensors", "sha256"), ("config.json", "git-sha1")], ids=["large", "small"]
)
def test_bytes_that_stay_wrong_are_refused_with_both_hashes(hub, target, name, kind):
    hub.fail(f"*/{name}", wrong=True)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert name in message and re.search(rf"{kind} [0-9a-f]{{40,64}} where [0-9a-f]{{40,64}} is expected", message)
    assert not target.exists() and not list(aside_of(target).glob(f"{name}*"))


def test_a_listing_that_hangs_is_given_up(hub, target, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.fail("/api/*", hang=30)
    message = refusal(fetch_model, REPO, target, (0.01,))
    assert "ReadTimeout" in message and "2 attempts" in message and "login node" in message and not target.exists()


def test_a_transfer_that_hangs_is_given_up(hub, target, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.fail("/storage/*", hang=30)
    message = refusal(fetch_model, REPO, target, (0.01,))
    assert "ReadTimeout" in message and "login node" in message and not target.exists()


def test_a_transfer_that_hangs_in_the_middle_is_asked_for_again(hub, target, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.fail("*model.safetensors", truncate=100_000, hang=30, times=1)
    fetch_model(REPO, target, ())
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
    assert len(hub.asked(path, "*")) == 1 and not target.exists()


def test_a_repository_or_revision_that_the_hub_does_not_know_is_named(hub, target, tmp_path):
    assert "no model someone/else" in refusal(fetch_model, {"repo": "someone/else", "revision": COMMIT}, target)
    assert OTHER_COMMIT in refusal(fetch_model, {"repo": "someone/tiny", "revision": OTHER_COMMIT}, target)
    source = {"repo": "someone/tiny", "revision": COMMIT, "splits": {"dev": "*"}}
    assert "no dataset someone/tiny" in refusal(fetch_dataset, source, tmp_path / "data")
    assert not target.parent.exists()


def test_an_answer_for_another_commit_is_refused(hub, target):
    hub.add_repo("model", "someone/moved", COMMIT, MODEL, commit=OTHER_COMMIT)
    assert OTHER_COMMIT in refusal(fetch_model, {"repo": "someone/moved", "revision": COMMIT}, target)


@pytest.mark.parametrize("repo", ["a/b/c", "someone/ti ny", "-x"])
def test_a_name_that_no_repository_can_have_is_named(hub, target, repo):
    assert f"model {repo} at" in refusal(fetch_model, {"repo": repo, "revision": COMMIT}, target, QUICK)


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
    _, said = process.communicate(timeout=900)
    assert process.returncode == 1 and "HF_HUB_OFFLINE" in said.splitlines()[-1] and "InputError" in said
    assert not hub.requests


# the disk


def test_a_disk_that_fills_up_is_not_retried(hub, target, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "_chmod_and_move", full)
    with pytest.raises(OSError, match="No space left on device"):
        fetch_model(REPO, target, QUICK)
    assert len(hub.asked("/storage/*")) == 1 and not target.exists()


def test_a_quota_that_is_used_up_leaves_no_half_download(tmp_path, monkeypatch):
    (tmp_path / "dev.json").write_text("{}")

    def out_of_quota(*_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(shutil, "copyfile", out_of_quota)
    source = {"splits": {"dev": str(tmp_path / "dev.json")}}
    with pytest.raises(OSError, match="Disk quota exceeded"):
        fetch_dataset(source, tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()] == ["dev.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(hub, target):
    target.parent.mkdir(mode=0o500)
    assert str(target.parent) in refusal(fetch_model, REPO, target, QUICK)


# the next attempt


def test_the_next_call_fetches_only_what_is_not_there_yet(hub, target):
    hub.fail("*model.safetensors", status=404)
    refusal(fetch_model, REPO, target, ())
    assert not target.exists()
    missing = {name for name in MODEL if not (aside_of(target) / SNAPSHOT / name).is_file()}
    assert "model.safetensors" in missing  # and those that the client had not begun when this one failed
    hub.heal()
    hub.requests.clear()
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()
    assert {request.path.rsplit("/")[-1] for request in hub.asked("*/resolve/*", "*")} == missing


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_was_damaged_in_between_is_fetched_again(hub, target, name):
    hub.fail("*/vocab.json", status=404)
    refusal(fetch_model, REPO, target, ())
    hub.heal()
    (aside_of(target) / SNAPSHOT / name).write_bytes(MODEL[name].swapcase())
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()


def test_a_killed_process_leaves_finished_files_that_the_next_one_takes(hub, target):
    hub.fail("*model.safetensors", truncate=200_000, hang=60, times=1)
    process = in_another_process(target)
    folder = aside_of(target) / SNAPSHOT
    finished = {f"{name}.metadata" for name in MODEL if name != "model.safetensors"}  # written last, of three lines
    wait_until(
        lambda: finished <= {path.name for path in folder.rglob("*.metadata") if path.read_text().count("\n") > 2}
    )
    wait_until(lambda: list(folder.rglob("*.incomplete")))
    process.kill()
    process.communicate(timeout=300)
    assert not target.exists()
    hub.requests.clear()
    fetch_model(REPO, target, QUICK)
    assert {request.path.rsplit("/")[-1] for request in hub.asked("*/resolve/*")} == {"model.safetensors"}
    assert contents(target).items() >= MODEL.items() and not aside_of(target).exists()


def test_what_is_left_of_another_revision_is_not_used(hub, target):
    hub.fail("*model.safetensors", status=404)
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
