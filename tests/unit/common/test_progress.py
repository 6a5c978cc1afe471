"""Progress: when a line comes and what it says, and the file beside a job's record that has the same."""

import errno
import json
import logging

import pytest

from qa.common import progress
from qa.common.progress import Progress, watched
from qa.hub import repository
from qa.training import callbacks


class Clock:
    """Stands for the clock that progress goes by."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    monkeypatch.setattr(Progress, "last", -float("inf"))
    return clock


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records if record.name == "qa.common.progress"]


def go(clock, seconds, step=1.0, total=100, **options):
    """Do a hundredth of some work each `step` seconds, for `seconds`."""
    one = Progress("train", total, "steps", **options)
    for done in range(1, round(seconds / step) + 1):
        clock.now += step
        one.reach(done)
    return one


def test_what_takes_less_than_five_seconds_says_nothing(clock, told):
    go(clock, 4.9, step=0.7, total=7)
    assert told() == []


def test_a_line_comes_at_most_every_five_seconds_with_done_total_rate_and_time_left(clock, told):
    go(clock, 12)
    assert told() == [
        "train: 5/100 steps, 1.0 steps/s, 1 min 35 s left",
        "train: 10/100 steps, 1.0 steps/s, 1 min 30 s left",
    ]


def test_where_one_unit_takes_long_each_has_a_line(clock, told):
    go(clock, 40, step=20, total=3)
    assert told() == [
        "train: 1/3 steps, 0.05 steps/s, 40 s left",
        "train: 2/3 steps, 0.05 steps/s, 20 s left",
    ]


def test_the_end_is_said_once_where_anything_was(clock, told):
    one = go(clock, 6, total=6)
    one.reach(6)
    assert told()[-1] == "train: 6/6 steps, 1.0 steps/s, 0 s left" and len(told()) == 2


def test_what_was_done_before_counts_as_done_and_not_for_the_rate(clock, told):
    one = Progress("train", 1_000_000, "steps", done=500_000)
    clock.now += 10
    one.reach(520_000, "loss 1.25")
    assert told() == ["train: 520,000/1,000,000 steps, 2,000.0 steps/s, 4 min left, loss 1.25"]


def test_parts_of_a_stage_that_are_short_each_are_told_together(clock, told):
    for label in ("score", "bootstrap", "read"):
        one = Progress(label, 3, "questions")
        for done in range(1, 4):
            clock.now += 1
            one.reach(done)
    assert told() == [
        "bootstrap: 2/3 questions, 1.0 questions/s, 1 s left",
        "bootstrap: 3/3 questions, 1.0 questions/s, 0 s left",
    ]


def test_after_long_silence_the_five_seconds_begin_anew(clock, told):
    go(clock, 1, total=1)
    clock.now += 3600
    go(clock, 4, total=4)
    assert told() == []


def test_an_unknown_total_is_said_to_be_unknown(clock, told):
    go(clock, 5, total=0)
    assert told() == ["train: 5/? steps, 1.0 steps/s, ? left"]


def test_watched_items_come_in_order_and_are_counted(clock, told):
    seen = []
    for item in watched("abcdefghij", "read", "rows"):
        clock.now += 1
        seen.append(item)
    assert "".join(seen) == "abcdefghij"
    assert [line.split(",")[0] for line in told()] == ["read: 5/10 rows", "read: 10/10 rows"]
    assert list(watched(iter("ab"), "read", "rows", total=2)) == ["a", "b"]


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """The file for progress, as the job's record names it."""
    file = tmp_path / "logs" / "attempt.progress"
    monkeypatch.setenv(progress.FILE, str(file))
    monkeypatch.delenv("RANK", raising=False)
    return file


def test_the_file_has_what_the_line_says(clock, told, saved):
    one = Progress("train", 8_250, "steps", done=1_000)
    for done in (1_500, 1_600):
        clock.now += 10
        one.reach(done, f"33.5 samples/s, loss {done / 1000:.3f}")
    state = progress.read(saved)
    assert (state.label, state.done, state.total, state.unit, state.rate) == ("train", 1600, 8250, "steps", 30.0)
    assert state.seconds_left == pytest.approx(6650 / 30) and state.remark == "33.5 samples/s, loss 1.600"
    assert state.age < 60 and state.line == told()[-1]
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_the_file_is_written_no_more_often_than_the_line(clock, saved, monkeypatch):
    writes = []
    monkeypatch.setattr(progress, "write_json", lambda *arguments: writes.append(arguments))
    go(clock, 12)
    assert len(writes) == 2


def test_of_several_processes_only_the_first_writes_the_file(clock, told, saved, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    go(clock, 6)
    assert told() and not saved.exists()
    monkeypatch.setenv("RANK", "0")
    go(clock, 6)
    assert progress.read(saved).done == 4


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), PermissionError("no")])
def test_a_file_that_cannot_be_written_stops_nothing(error, clock, told, saved, monkeypatch):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(progress, "write_json", fail)
    go(clock, 6)
    assert len(told()) == 1


GOOD = {"label": "train", "done": 1, "total": 9, "unit": "steps", "rate": 1.0, "seconds_left": None, "remark": ""}
GOOD |= {"written": "2026-11-22T22:21:50+00:00"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "null",
        '{"label": "train"}',
        "[" * 100_000,
        *(json.dumps(GOOD | change) for change in ({"done": "1"}, {"rate": None}, {"written": "yesterday"}, {"x": 1})),
        json.dumps(GOOD | {"written": "2026-11-22T22:21:50"}),
    ],
)
def test_a_file_that_holds_something_else_is_no_progress(text, tmp_path):
    (tmp_path / "x.progress").write_text(json.dumps(GOOD))
    assert progress.read(tmp_path / "x.progress").line == "train: 1/9 steps, 1.0 steps/s, ? left"
    (tmp_path / "x.progress").write_text(text)
    assert progress.read(tmp_path / "x.progress") is None
    assert progress.read(tmp_path / "missing.progress") is None


def test_a_validation_tells_its_batches_and_the_next_one_counts_anew(clock, told):
    watch = callbacks.ProgressCallback(windows=10)
    for _ in range(2):
        for _ in range(6):
            clock.now += 1
            watch.on_prediction_step(None, None, None, eval_dataloader=range(6))
        watch.on_evaluate(None, None, None)
    lines = [line.split(",")[0] for line in told()]
    assert lines == [f"validate: {done}/6 batches" for done in (6, 5, 6)]


def test_a_download_tells_its_mebibytes(clock, told):
    bar = repository._byte_counter("a/b", 12 * 2**20)(unit="B", disable=True)
    for _ in range(12):
        clock.now += 2
        bar.update(2**20)
    assert [line.split(",")[0] for line in told()] == [f"a/b: {n}/12 MiB" for n in (3, 6, 9, 12)]
