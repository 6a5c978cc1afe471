"""When a training that stopped itself sends its SLURM job back into the queue."""

import signal

import pytest

from qa.common.errors import Interrupted
from qa.jobs import job_records, slurm

OURS = "JobId=7 JobState=RUNNING Requeue=1 Comment=rule_train_wildcards_small_seed-1"


@pytest.fixture
def asked(monkeypatch):
    """What SLURM is asked; `answers` has what scontrol says by its first word."""
    calls, answers = [], {"show": OURS, "requeue": ""}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm, "ask", lambda *command, **patience: calls.append(command) or answers[command[1]])
    handler = signal.getsignal(signal.SIGTERM)
    yield calls, answers
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RUNNING", "COMPLETING"),  # by scancel or a preemption
        ("Requeue=1", "Requeue=0"),
        ("Comment=rule_train", "Comment=(null)"),  # the user's own job, in which Snakemake runs
    ],
)
def test_only_a_running_job_of_the_executor_is_requeued(old, new, asked):
    calls, answers = asked
    assert job_records.requeue_this_job() and calls[-1] == ("scontrol", "requeue", "7")
    answers["show"] = OURS.replace(old, new)
    assert not job_records.requeue_this_job() and calls[-1][1] == "show"


def test_where_slurm_refuses_the_job_ends_as_before(asked):
    asked[1]["requeue"] = None
    before = signal.getsignal(signal.SIGTERM)
    assert not job_records.requeue_this_job() and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("error", "requeued"), [(Interrupted("walltime"), True), (ValueError("diverged"), False)])
def test_a_stage_that_stopped_itself_requeues_its_job_once_its_record_is_written(
    error, requeued, asked, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    log = "logs/train/small/seed-1.log"
    with pytest.raises(type(error)), job_records.recorded("train", log, {"wildcards": {}}):
        raise error
    assert (("scontrol", "requeue", "7") in asked[0]) == requeued
    assert [record.state for record in job_records.read()] == ["interrupted" if requeued else "failed"]
