"""Rarer faults of networks and servers during downloads, and two downloads of the same thing."""

import re

import pytest

from qa.hub import fetch_dataset, fetch_model
from small_hub import (
    COMMIT,
    MODEL,
    QUICK,
    REPO,
    WEIGHTS,
    aside_of,
    contents,
    in_another_process,
    refusal,
    wait_until,
)

LONGER, SHORTER = WEIGHTS + b"more", WEIGHTS[:-4]


def test_a_slow_server_is_waited_for_as_long_as_bytes_come(hub, target, monkeypatch):
    """In all longer than the silence that would be a fault."""
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.fail("*model.safetensors", drip=0.15, times=1)
    fetch_model(REPO, target, ())
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert [request.range for request in hub.asked("/storage/*")] == [None]


@pytest.mark.parametrize("body", [LONGER, SHORTER], ids=["longer", "shorter"])
def test_a_file_of_another_length_than_stated_is_dropped_and_fetched_again(body, hub, target):
    hub.fail("/storage/*", status=200, body=body, times=1)
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()


@pytest.mark.parametrize("body", [LONGER, SHORTER], ids=["longer", "shorter"])
def test_a_length_that_stays_wrong_is_refused_with_both_numbers(body, hub, target):
    hub.fail("/storage/*", status=200, body=body)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert f"{len(body):,} bytes where {len(WEIGHTS):,} are expected" in message and "model.safetensors" in message
    assert not target.exists() and not list(aside_of(target).glob("model.safetensors*"))


@pytest.mark.parametrize("path", ["/api/models/*", "*/resolve/*/config.json", "/storage/*"])
def test_redirects_in_a_circle_are_told_at_once(path, hub, target):
    hub.fail(path, status=302, location="?again")
    message = refusal(fetch_model, REPO, target, QUICK)
    assert "redirects in a circle" in message and "HF_ENDPOINT" in message
    assert not target.exists()


def test_a_revision_that_goes_between_two_files_is_named_and_what_came_is_kept(hub, target):
    hub.fail("*/resolve/*/tokenizer.json", status=404, error_code="RevisionNotFound")
    message = refusal(fetch_model, REPO, target, QUICK)
    assert f"has no commit {COMMIT}" in message and "/commits/main" in message
    assert not target.exists() and (aside_of(target) / "config.json").read_bytes() == MODEL["config.json"]
    hub.heal()
    fetch_model(REPO, target, QUICK)
    assert len(hub.asked("*/resolve/*/config.json")) == 1


def test_a_data_set_whose_revision_goes_between_two_files_is_named(hub, tmp_path):
    hub.add_repo("dataset", "someone/squad", COMMIT, {"train.json": b"{}", "dev.json": b"{ }"})
    hub.fail("*/dev.json", status=404, error_code="RevisionNotFound")
    source = {"repo": "someone/squad", "revision": COMMIT, "splits": {"train": "train.json", "dev": "dev.json"}}
    message = refusal(fetch_dataset, source, tmp_path / "data", QUICK)
    assert f"dataset someone/squad has no commit {COMMIT}" in message and not (tmp_path / "data").exists()


def test_of_two_downloads_of_the_same_model_the_second_is_refused_and_the_first_is_whole(hub, target):
    hub.fail("/storage/*", truncate=100_000, hang=60, times=1)
    first = in_another_process(target)
    part = aside_of(target) / "model.safetensors.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert re.fullmatch(rf"{target}: another process is bringing it here; wait for it and run again", message)
    first.kill()
    first.communicate(timeout=20)
    fetch_model(REPO, target, QUICK)  # whoever was killed holds nothing any more
    assert contents(target).items() >= MODEL.items() and [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_two_downloads_that_begin_together_leave_one_whole_model(hub, target):
    hub.fail("*model.safetensors", drip=0.05)
    both = [in_another_process(target) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert 0 in [process.returncode for process in both]
    for process, text in zip(both, said, strict=True):
        assert process.returncode == 0 or "another process is bringing it here" in text
    assert contents(target).items() >= MODEL.items() and [path.name for path in target.parent.iterdir()] == ["tiny"]
