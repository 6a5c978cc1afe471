"""What SLURM tells of jobs, in answers as SLURM 22.05 gave them on a real cluster."""

from datetime import UTC, datetime

import pytest

from qa.jobs import slurm, slurm_accounting

SCONTROL = (
    "JobId=5 JobName=job.sh UserId=someone(1000) GroupId=someone(1000) MCS_label=N/A Priority=4294901755 Nice=0 "
    "Account=def-someone QOS=normal JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=1 BatchFlag=1 "
    "Reboot=0 ExitCode=0:0 RunTime=00:00:00 TimeLimit=1-00:00:00 TimeMin=N/A SubmitTime=2026-11-22T22:05:19 "
    "EligibleTime=2026-11-22T22:05:30 AccrueTime=2026-11-22T22:05:30 StartTime=2026-11-22T22:05:32 "
    "EndTime=2026-11-23T22:05:32 Deadline=N/A Partition=gpu NodeList=gpu1 BatchHost=gpu1 NumNodes=1 NumCPUs=4 "
    "CPUs/Task=4 {tres} MinMemoryNode=3G Comment=rule_train wildcards TRES=none Power= TresPerNode=gres:gpu:a100:2 \n"
)
TRES = "TRES=cpu=4,mem=3G,node=1,billing=1,gres/gpu=2"
LATER_TRES = "ReqTRES=cpu=1,mem=1G AllocTRES=cpu=4,mem=3072M,node=1,billing=1,gres/gpu=2,gres/gpu:a100=2"

SACCT = """\
1|COMPLETED|2026-11-22T22:05:13|2026-11-22T22:05:14|2026-11-22T22:05:24|
1.batch|COMPLETED|2026-11-22T22:05:14|2026-11-22T22:05:14|2026-11-22T22:05:24|184676K
1.0|COMPLETED|2026-11-22T22:05:14|2026-11-22T22:05:14|2026-11-22T22:05:24|605676K
4|CANCELLED by 0|2026-11-22T22:05:13|2026-11-22T22:05:14|2026-11-22T22:05:18|
4.batch|CANCELLED|2026-11-22T22:05:14|2026-11-22T22:05:14|2026-11-22T22:05:18|
5|REQUEUED|2026-11-22T22:05:13|2026-11-22T22:05:14|2026-11-22T22:05:18|
5.batch|CANCELLED|2026-11-22T22:05:14|2026-11-22T22:05:14|2026-11-22T22:05:18|2048K
7|FAILED|2026-11-22T22:05:13|2026-11-22T22:05:14|2026-11-22T22:05:14|
7.batch|FAILED|2026-11-22T22:05:14|2026-11-22T22:05:14|2026-11-22T22:05:14|1M
7.0|OUT_OF_MEMORY|2026-11-22T22:05:14|2026-11-22T22:05:14|2026-11-22T22:05:14|2G
5|RUNNING|2026-11-22T22:05:19|2026-11-22T22:05:32|Unknown|
5.batch|RUNNING|2026-11-22T22:05:32|2026-11-22T22:05:32|Unknown|
"""
SQUEUE = """\
3|TIMEOUT|2026-11-22T22:05:13|2026-11-22T22:05:14|2026-11-22T22:06:22
5|FAILED|2026-11-22T22:05:19|2026-11-22T22:05:32|2026-11-22T22:05:40
6|RUNNING|2026-11-22T22:05:13|2026-11-22T22:05:14|2026-11-23T22:05:14
8|PENDING|2026-11-22T22:05:13|N/A|N/A
"""


@pytest.fixture
def answers(monkeypatch):
    """Answers of SLURM's commands by their names; None for one that fails, as where it is missing."""
    told = {"sacct": SACCT, "squeue": SQUEUE, "scontrol": SCONTROL.format(tres=TRES)}
    monkeypatch.setattr(slurm, "ask", lambda *command, patience=0.0: told[command[0]])
    return told


STAND_IN = """#!/bin/sh
test "$SQUEUE_PARTITION" && exit 0
case $* in *--all*) ;; *) exit 1;; esac
test "$SLURM_TIME_FORMAT" = standard && time=2026-11-22T22:05:13 || time='22 Nov 22:05'
case $* in *=%e) echo $time; exit;; *%A*) id=7;; *) id=5_2;; esac
echo "$id|RUNNING|$time|$time|$time"
"""


def test_neither_a_users_own_view_of_the_queue_nor_an_array_hides_a_job(tmp_path, monkeypatch):
    (tmp_path / "squeue").write_text(STAND_IN)
    (tmp_path / "squeue").chmod(0o755)
    for name, value in {"SLURM_TIME_FORMAT": "relative", "SQUEUE_PARTITION": "gpu", "PATH": f"{tmp_path}:/bin"}.items():
        monkeypatch.setenv(name, value)
    assert slurm.end_of("7") == local("2026-11-22T22:05:13").timestamp()
    (start,) = slurm_accounting.starts_of(["7"])["7"]
    assert start.started == local("2026-11-22T22:05:13") and start.ended is None


def local(text):
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize("tres", [TRES, LATER_TRES, f"ReqTRES={TRES[5:]} AllocTRES=(null)"])
def test_a_job_knows_its_times_and_what_it_was_given(tres, answers, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    answers["scontrol"] = SCONTROL.format(tres=tres)
    assert slurm_accounting.this_job() == {
        "job": "5",
        "submitted": local("2026-11-22T22:05:19").isoformat(),
        "started": local("2026-11-22T22:05:32").isoformat(),
        "seconds": 86400,
        "cpus": 4,
        "memory_mib": 3072.0,
        "gpus": 2,
    }


def test_where_the_controller_does_not_answer_a_job_knows_its_number(answers, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    answers["scontrol"] = None
    assert slurm_accounting.this_job() == {"job": "5"}


def test_outside_of_slurm_nothing_is_asked(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(slurm, "ask", lambda *command, patience=0.0: pytest.fail("asked"))
    assert slurm_accounting.this_job() == {} and slurm_accounting.starts_of([]) == {}


def test_accounting_tells_every_start_with_the_peak_memory_of_its_steps(answers):
    answers["squeue"] = ""
    found = slurm_accounting.starts_of(["1", "4", "5", "99"])
    assert found.keys() == {"1", "4", "5"}
    assert [(s.state, s.over, s.peak_memory_mib) for s in found["1"]] == [("COMPLETED", True, 605676 / 1024)]
    assert [s.state for s in found["4"]] == ["CANCELLED"]
    assert [(s.state, s.over, s.peak_memory_mib) for s in found["5"]] == [
        ("REQUEUED", True, 2.0),
        ("RUNNING", False, None),
    ]
    assert found["5"][0].ended == local("2026-11-22T22:05:18")


def test_a_step_that_ran_out_of_memory_tells_why_its_job_failed(answers):
    (start,) = slurm_accounting.starts_of(["7"])["7"]
    assert (start.state, start.peak_memory_mib) == ("OUT_OF_MEMORY", 2048.0)


def test_without_accounting_the_controller_tells_the_last_start(answers):
    answers["sacct"] = None
    found = slurm_accounting.starts_of(["3", "6", "8", "99"])
    assert [(found[job][0].state, found[job][0].over) for job in ("3", "6", "8")] == [
        ("TIMEOUT", True),
        ("RUNNING", False),
        ("PENDING", False),
    ]
    assert found["3"][0].ended == local("2026-11-22T22:06:22") and found["8"][0].started is None
    assert "99" not in found


def test_the_controller_knows_an_end_before_accounting_does(answers):
    assert [start.state for start in slurm_accounting.starts_of(["5"])["5"]] == ["REQUEUED", "FAILED"]


def test_an_unreachable_cluster_is_not_one_without_such_jobs(answers):
    answers.update(sacct=None, squeue=None)
    assert slurm_accounting.starts_of(["1"]) is None
    answers.update(squeue="")
    assert slurm_accounting.starts_of(["1"]) == {}


def test_many_jobs_are_asked_for_in_few_calls(monkeypatch):
    calls = []
    monkeypatch.setattr(slurm, "ask", lambda *command, patience=0.0: calls.append(command) or "")
    slurm_accounting.starts_of(map(str, range(1000)))
    asked = [part for command in calls if command[0] == "sacct" for part in command if part.startswith("--jobs=")]
    assert len(calls) == 6 and len(",".join(asked).split(",")) == 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:01:00", 60), ("1-02:03:04", 93784), ("1:00", 60), ("UNLIMITED", None), ("Partition_Limit", None), ("", None)],
)
def test_durations_are_read_as_slurm_writes_them(text, seconds):
    assert slurm_accounting.seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "mebibytes"), [("4544K", 4.4375), ("3G", 3072), ("1.5T", 1572864), ("0", None), ("", None), ("n/a", None)]
)
def test_memory_is_read_as_slurm_writes_it(text, mebibytes):
    assert slurm_accounting.mebibytes(text) == mebibytes
