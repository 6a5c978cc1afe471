"""Clocks that were wrong, time stamps that say little: what is decided by them all the same, and what is not."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qa.common.errors import InputError
from qa.plan import timestamps
from qa.training import checkpoints
from qa.training.checkpoints import TrainingMemory

ROOT = Path(__file__).parents[3]


def attempt(**changes):
    now = datetime.now(UTC).isoformat(timespec="seconds")
    there = {"started": now, "seen": now, "resumed_at_step": 0, "step": 3, "outcome": "running", "pid": 1}
    return {**there, "slurm_job_id": None, "node": "elsewhere", **changes}


def test_time_stamps_ahead_of_the_clock_are_refused_with_the_way_out(tmp_path):
    old, ahead, made = tmp_path / "old", tmp_path / "ahead", tmp_path / "made"
    made.mkdir()
    for path in (old, ahead, made / ".snakemake_timestamp"):
        path.write_text("")
    timestamps.check([old, ahead, made, tmp_path / "missing"])
    os.utime(made / ".snakemake_timestamp", (time.time() + 7260,) * 2)
    with pytest.raises(InputError, match=r"made: changed later than now, by up to 2 h( 1 min)?; .*-exec touch"):
        timestamps.check([old, ahead, made])
    os.utime(made / ".snakemake_timestamp", (time.time() + 60,) * 2)  # as file servers' clocks differ
    os.utime(made, (time.time() + 7260,) * 2)  # Snakemake does not look there
    timestamps.check([old, ahead, made])


def test_a_files_state_is_of_its_bytes_and_of_a_large_ones_size_and_time(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("abc")
    before = timestamps.state_of(path)
    os.utime(path, (1, 1))
    assert timestamps.state_of(path) == before
    path.write_text("abd")
    assert timestamps.state_of(path) != before
    monkeypatch.setattr(timestamps, "HASHED", 2)
    os.utime(path, (1.25, 1.25))
    assert timestamps.state_of(path) == "3 bytes of 1"


@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_snakemake_compares_the_bytes_of_files_as_large_as_those_that_are_hashed_here(profile):
    text = (ROOT / "profiles" / profile / "config.yaml").read_text()
    assert f"\nmax-checksum-file-size: {timestamps.HASHED // 10**6}MB" in text


def test_the_latest_checkpoint_is_that_of_the_most_steps_where_time_stamps_are_equal(tmp_path):
    for training, steps in {"a": (9, 10, 100), "b": (200,)}.items():
        for step in steps:
            checkpoint = tmp_path / "run" / "seed-1" / training / f"checkpoint-{step}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "model.safetensors").write_text("weights")
            checkpoints.mark_complete(checkpoint, 9)
            os.utime(checkpoint / "complete.json", (1000, 1000 if training == "a" else 990))
    latest = checkpoints.latest_of("run", "seed-1-latest", tmp_path)
    assert latest.endswith("a/checkpoint-100")


def test_a_sign_of_life_from_far_ahead_keeps_nobody_waiting():
    ahead = (datetime.now(UTC) + timedelta(hours=5)).isoformat(timespec="seconds")
    assert checkpoints.is_alive(attempt())
    assert not checkpoints.is_alive(attempt(seen=ahead))


def test_an_attempt_during_which_the_clock_was_set_back_counts_as_no_time():
    earlier = (datetime.now(UTC) - timedelta(hours=5)).isoformat(timespec="seconds")
    whole = attempt(started=earlier)
    assert 5 * 3600 <= checkpoints.seconds_of([whole]) == checkpoints.seconds_of([whole, attempt(seen=earlier)]) < 18100


def test_a_training_killed_before_its_result_is_kept_still_has_its_checkpoints(tmp_path, monkeypatch):
    memory = TrainingMemory(tmp_path / "run" / "seed-1", "fingerprint")
    memory.begin()
    (memory.checkpoints / "checkpoint-7").mkdir()
    model = tmp_path / "model.json"
    model.write_text(json.dumps(1))

    class Killed(BaseException):
        pass

    def killed(source, target):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoints, "_link", killed)
        memory.keep_result({"model.json": model}, checkpoints=False)
    assert [path.name for path in checkpoints.checkpoints_in(memory.checkpoints)] == ["checkpoint-7"]
    memory.keep_result({"model.json": model}, checkpoints=False)
    assert not checkpoints.checkpoints_in(memory.checkpoints) and memory.take_result({"model.json": model})
