"""What corrects Snakemake's SLURM executor, with stand-ins of SLURM's commands; the real ones answer in tests/slurm."""

import asyncio
import os
import subprocess
import uuid
from dataclasses import asdict
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin
from snakemake.scheduling.job_scheduler import JobScheduler

from hooks import slurm_executor
from hooks.slurm_executor import Shared, Submission, final_states
from qa.common.files import write_json
from qa.jobs import job_records, slurm
from qa.jobs.job_records import JobRecord

COMMENT = "rule_train_wildcards_small_seed-1"
LOG = "logs/train/small/seed-1.log"
CALL = "sbatch --parsable --job-name run-id --comment 'rule_train_wildcards_small_seed-1' --wrap=\"true\""
PIPES = {"shell": True, "text": True, **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)}
UNREACHABLE = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
LIMIT = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time)"


def record(state: str, log: str = LOG) -> None:
    made = JobRecord("train", {}, log, "2026-05-01T00:00:00+00:00", state, process="1:1", slurm={"job": "7"})
    write_json(job_records.path_of(made), asdict(made))


@pytest.mark.parametrize(
    ("accounting", "records", "end"),
    [
        ("CANCELLED by 1001", [], "CANCELLED"),
        ("COMPLETED", ["running"], "COMPLETED"),
        ("NODE_FAIL", [], "FAILED"),  # the executor would wait for SLURM to requeue it
        ("RUNNING", ["completed"], "COMPLETED"),  # accounting is late
        (None, ["completed"], "COMPLETED"),
        (None, ["completed", "failed"], "FAILED"),  # a group of two stages
        (None, ["running"], "FAILED"),  # it was killed
        (None, [], "FAILED"),  # it was cancelled while it waited
    ],
)
def test_a_job_that_squeue_has_forgotten_ended_as_accounting_or_its_own_records_say(
    accounting, records, end, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    row = f"7|{accounting}|2026-05-01T00:00:00|2026-05-01T00:00:00|2026-05-01T01:00:00|\n"
    answers = {"squeue": "", "sacct": row if accounting else None}
    monkeypatch.setattr(slurm, "ask", lambda command, *options, **patience: answers[command])
    logs = [LOG, "logs/predict/small/seed-1.log"][: max(len(records), 1)]
    for state, log in zip(records, logs, strict=False):
        record(state, log)
    assert final_states({"7": logs}) == {"7": end}


def test_the_executor_is_told_of_forgotten_jobs_and_waits_while_slurm_does_not_answer(monkeypatch):
    monkeypatch.setattr(slurm_executor, "PAUSE", 0.0)
    monkeypatch.setattr(slurm_executor, "final_states", lambda logs: dict.fromkeys(logs, "COMPLETED"))
    answers = [(None, None), (None, None), ({"1": "RUNNING", "2": "CANCELLED by 0"}, 0.1)]

    async def query(command, logger):
        assert command == "squeue --me --all"
        return answers.pop(0)

    shared = Shared(logs={"1": [], "2": [], "3": [], "4_1": []})
    found = asyncio.run(slurm_executor._patient(query, shared)("squeue --name run-id", None))
    assert found == ({"1": "RUNNING", "2": "CANCELLED", "3": "COMPLETED"}, 0.1) and not answers


@pytest.mark.parametrize(("jobs", "own", "pause"), [(3, 15, 15), (40, 15, 40), (500, 15, 60), (500, 180, 180)])
def test_the_more_jobs_the_longer_the_pause_between_two_questions(jobs, own, pause):
    async def check(self, active_jobs):
        self.next_seconds_between_status_checks = own
        for job in active_jobs:
            yield job

    async def all_of(executor, active_jobs):
        return [job async for job in slurm_executor._noting(check, Shared())(executor, active_jobs)]

    active = [SimpleNamespace(external_jobid=str(n), job=SimpleNamespace(is_group=bool, log=[])) for n in range(jobs)]
    assert asyncio.run(all_of(executor := SimpleNamespace(), active)) == active
    assert executor.next_seconds_between_status_checks == pause


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Stand-ins: sbatch says each of the given errors once and then takes the job 8; squeue lists what it is told."""
    monkeypatch.setattr(slurm_executor, "PAUSE", 0.01)
    monkeypatch.setattr(slurm_executor, "SPACING", 0.0)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def answers(*errors: str, squeue: str = ""):
        for number, error in enumerate(errors, 1):
            (tmp_path / f"error-{number}").write_text(error)
        script("sbatch", 'n=$(wc -l < calls)\n[ -f "error-$n" ] && cat "error-$n" >&2 && exit 1\necho 8')
        script("squeue", f"printf '%s\\n' '{squeue}'")

    def script(name, body):
        path = tmp_path / name
        path.write_text(
            f"#!/bin/sh\ncd {tmp_path}\necho {name} >> {'calls' if name == 'sbatch' else 'asked'}\n{body}\n"
        )
        path.chmod(0o755)

    answers.calls = lambda: len((tmp_path / "calls").read_text().splitlines())
    return answers


@pytest.mark.parametrize(
    "error",
    [
        UNREACHABLE,
        TIMED_OUT,
        *(
            f"sbatch: error: {name}\nsbatch: error: {LIMIT}"
            for name in ("AssocMaxSubmitJobLimit", "AssocGrpSubmitJobsLimit")
        ),
        f"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: {LIMIT}",
    ],
)
def test_a_submission_waits_for_the_controller_and_for_room_under_a_limit(error, cluster):
    cluster(error, error)
    submission = Submission(Shared(), CALL, **PIPES)
    assert (submission.communicate()[0].strip(), submission.returncode, cluster.calls()) == ("8", 0, 3)


@pytest.mark.parametrize("error", ["sbatch: error: Invalid account", "sbatch: error: QOSMaxWallDurationPerJobLimit"])
def test_any_other_refusal_is_the_executors_at_once(error, cluster):
    cluster(error)
    submission = Submission(Shared(), CALL, **PIPES)
    assert (submission.communicate()[1].strip(), submission.returncode, cluster.calls()) == (error, 1, 1)


def test_a_job_that_slurm_took_although_its_answer_came_too_late_is_not_submitted_twice(cluster):
    cluster(TIMED_OUT, squeue=f"4|/elsewhere|{COMMENT}\n5|{Path.cwd()}|{COMMENT}\n7|{Path.cwd()}|{COMMENT}")
    submission = Submission(Shared(numbers={"5"}), CALL, **PIPES)
    assert (submission.communicate()[0], submission.returncode, cluster.calls()) == ("7", 0, 1)


def test_nothing_is_submitted_before_squeue_says_that_slurm_has_no_such_job(cluster, tmp_path):
    cluster(TIMED_OUT)
    squeue = tmp_path / "squeue"
    silent = "[ $(wc -l < asked) -lt 3 ] && [ $(wc -l < calls) -gt 1 ] && touch too-early\n[ $(wc -l < asked) -ge 3 ]"
    squeue.write_text(f"#!/bin/sh\ncd {tmp_path}\necho squeue >> asked\n{silent}\n")
    submission = Submission(Shared(), CALL, **PIPES)
    assert (submission.communicate()[0].strip(), cluster.calls()) == ("8", 2)
    assert len((tmp_path / "asked").read_text().splitlines()) == 3 and not (tmp_path / "too-early").exists()


def test_ctrl_c_ends_the_wait(cluster, monkeypatch):
    monkeypatch.setattr(slurm_executor, "PAUSE", 3600.0)
    cluster(UNREACHABLE)
    shared = Shared()
    Timer(0.1, shared.ending.set).start()
    submission = Submission(shared, CALL, **PIPES)
    assert submission.communicate()[1] == UNREACHABLE and submission.returncode == 1


def test_the_next_submission_waits_for_its_time_and_is_dropped_if_snakemake_ends(cluster, monkeypatch):
    monkeypatch.setattr(slurm_executor, "SPACING", 3600.0)
    cluster()
    first, second = (Submission(shared, CALL, **PIPES) for shared in [Shared()] * 2)
    first.communicate()
    Timer(0.1, second.shared.ending.set).start()
    second.communicate()
    assert (first.returncode, second.returncode, cluster.calls()) == (0, 1, 1)


def test_the_scheduler_does_not_wake_every_second_and_no_job_is_hidden(monkeypatch):
    methods = ("report_job_error", "check_active_jobs", "cancel", "shutdown")
    for owner, names in ((plugin, slurm_executor.REPLACED), (plugin.Executor, methods)):
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))  # restored after the test
    workflow = SimpleNamespace(
        is_main_process=True,
        executor_plugin=SimpleNamespace(name="slurm"),
        executor_settings=SimpleNamespace(status_command="squeue", efficiency_report=False),
        scheduler=SimpleNamespace(job_rate_limiter=object()),
    )
    monkeypatch.setenv("SQUEUE_PARTITION", "gpu")  # would hide jobs of other partitions from the executor
    slurm_executor.before_jobs(workflow)
    assert "SQUEUE_PARTITION" not in os.environ
    assert workflow.scheduler.job_rate_limiter is None
    assert "job_rate_limiter" in JobScheduler.__init__.__code__.co_names  # Snakemake's name for it


@pytest.mark.parametrize(
    ("state", "slurms", "attempt"),
    [("interrupted", "FAILED", 1), ("interrupted", "CANCELLED", 2), ("failed", "FAILED", 2), (None, "FAILED", 2)],
)
def test_a_planned_stop_costs_no_attempt(state, slurms, attempt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if state:
        record(state)
    job = SimpleNamespace(attempt=2, log=[LOG], is_group=lambda: False)
    reported = []
    report = slurm_executor._sparing(lambda executor, info, msg: reported.append(msg))
    message = f"SLURM-job '7' failed, SLURM status is: '{slurms}'."
    report(None, SimpleNamespace(external_jobid="7", job=job), msg=message)
    assert (job.attempt, reported) == (attempt, [message])


@pytest.mark.parametrize(
    ("comment", "name"), [(COMMENT, "train_small_seed-1"), ("rule_summarize", "summarize"), ("group_gpu", "group_gpu")]
)
def test_jobs_have_names_that_a_person_can_read(comment, name):
    submit_command = slurm_executor._naming(lambda job, params: params["run_uuid"])
    for prefix in ("", "thesis_"):
        assert submit_command(None, {"comment_str": comment, "run_uuid": f"{prefix}{uuid.uuid4()}"}) == prefix + name


def test_every_name_that_the_hook_replaces_is_still_the_executors():
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm")
    names = set(slurm_executor.REPLACED)
    for function in (plugin.Executor.check_active_jobs, plugin.Executor.run_job, plugin.Executor.get_account_arg):
        names -= set(function.__code__.co_names)
    assert not names
