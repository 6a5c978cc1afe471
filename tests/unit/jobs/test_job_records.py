"""Records that jobs leave of themselves: how each attempt ended, what it used, and nothing that is secret."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import stage_jobs
from stage_jobs import job

from qa.common import files, progress
from qa.common.errors import InputError, Interrupted
from qa.jobs import job_records, slurm_accounting
from qa.jobs.slurm_accounting import Start
from qa.jobs.stage import stage

LOG = "logs/train/small/seed-1.log"
WILDCARDS = {"run": "small", "variant": "seed-1"}
RESOURCES = {"mem_mb": 2000, "runtime": 30, "gpu": 1}
JOB = job(LOG, wildcards=WILDCARDS, threads=4, resources=RESOURCES)
CLUSTER = {"job": "12", "submitted": "2026-11-22T22:21:00+00:00", "started": "2026-11-22T22:21:50+00:00"}
LIBRARY, HELPERS = Path(job_records.__file__).parents[2], Path(stage_jobs.__file__).parent


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers  # a stage puts its own in their place


def the_record():
    (record,) = job_records.read()
    return record


def run(error=None):
    ends = pytest.raises(SystemExit) if error else nullcontext()
    with ends, stage("train", JOB):
        if error:
            raise error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "completed"),
        (InputError("wrong"), "failed"),
        (RuntimeError("a bug"), "failed"),
        (Interrupted("no time left"), "interrupted"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_a_record_says_how_its_attempt_ended(error, state):
    run(error)
    record = the_record()
    assert (record.rule, record.wildcards, record.log) == ("train", WILDCARDS, LOG)
    assert record.state == state and record.ended >= record.started
    assert record.asked == {"cpus": 4, "memory_mib": 2000, "seconds": 1800, "gpus": 1}
    assert record.peak_memory_mib > 1 and record.cpu_seconds > 0 and record.job is None


@pytest.mark.parametrize(
    ("environment", "used"),
    [
        ({}, "passive"),
        ({"OMP_WAIT_POLICY": "active"}, "active"),
        ({"SLURM_JOB_ID": "7"}, None),
        ({"SLURM_JOB_ID": "7", "OMP_WAIT_POLICY": "passive"}, "passive"),
    ],
    ids=str,
)
def test_waiting_threads_leave_the_cores_to_others_outside_slurm_jobs(environment, used, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with stage("train", JOB):
        assert os.environ.get("OMP_WAIT_POLICY") == used


def test_the_record_is_there_while_the_work_runs():
    with stage("train", JOB):
        record = the_record()
        assert record.state == "running" and job_records.settled(record, {}) == ("running", None)
    assert the_record().state == "completed"


def test_each_attempt_has_a_record_of_its_own():
    run(RuntimeError("once"))
    run()
    assert [record.state for record in job_records.read()] == ["failed", "completed"]


def test_what_slurm_gave_counts_before_what_snakemake_asked(monkeypatch):
    given = {**CLUSTER, "seconds": 3600, "cpus": 8, "memory_mib": 4096.0}
    monkeypatch.setattr(slurm_accounting, "this_job", lambda: dict(given))
    run()
    assert the_record().asked == {"cpus": 8, "memory_mib": 4096.0, "seconds": 3600, "gpus": 1}
    assert the_record().slurm == CLUSTER


def test_a_record_keeps_no_account_address_or_token():
    secret = {"slurm_account": "def-someone", "slurm_extra": "--mail-user=me@example.org", "mem_mb": "<TBD>"}
    with stage("train", job(LOG, resources={**RESOURCES, **secret})):
        pass
    text = job_records.path_of(the_record()).read_text()
    assert "def-someone" not in text and "@" not in text and "memory_mib" not in the_record().asked


def test_a_full_disk_costs_the_record_and_not_the_work(monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job_records, "write_json", full)
    done = []
    with stage("train", JOB):
        done.append(True)
    assert done and not job_records.read()
    assert "no record of this job's time and memory: OSError" in capsys.readouterr().err


def test_progress_stands_beside_the_record_until_the_stage_ends():
    with stage("train", JOB):
        file = job_records.progress_file(the_record())
        assert os.environ[progress.FILE] == str(file.absolute())
        progress._save(progress.ProgressState("train", 1, 2, "steps", 1.0, 1.0, "", the_record().started))
        assert progress.read(file).done == 1
    assert not file.exists() and progress.FILE not in os.environ
    assert the_record().state == "completed"


def test_a_file_that_is_no_record_is_skipped_and_said(capsys):
    run()
    folder = job_records.folder_of(LOG)
    (folder / "half.json").write_text('{"rule": "tr')
    (folder / "other.json").write_text('{"rule": "train"}')
    (folder / "list.json").write_text("[1]")
    assert the_record().state == "completed"
    told = capsys.readouterr().err
    assert all(f"{name}.json: no record" in told for name in ("half", "other", "list"))


def test_a_job_killed_by_the_kernel_is_told_from_one_that_runs():
    script = (
        "import sys, time\nfrom qa.jobs.stage import stage\nfrom stage_jobs import job\n"
        f"with stage('train', job({LOG!r})):\n    print('at work', flush=True)\n    time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{LIBRARY}:{HELPERS}"}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "at work\n"
        assert job_records.settled(the_record(), {}) == ("running", None)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert job_records.settled(the_record(), {}) == ("killed", None)
    finally:
        process.kill()
        process.communicate()


def test_another_process_of_the_same_number_is_not_the_job():
    with stage("train", JOB):
        record = the_record()
    pid = record.process.split(":")[0]
    assert job_records.settled(replace(record, state="running", process=f"{pid}:1"), {})[0] == "killed"


BEGAN = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
LOST = job_records.JobRecord("train", {}, LOG, BEGAN.isoformat(), node="gpu1", process="1:2", slurm={"job": "12"})


def start(state, after=0, ended=None):
    began = BEGAN + timedelta(seconds=after)
    return Start(state, began, began, None if ended is None else BEGAN + timedelta(seconds=ended))


@pytest.mark.parametrize(
    ("known", "state"),
    [
        ({"12": [start("TIMEOUT", -3, 90)]}, "TIMEOUT"),
        ({"12": [start("OUT_OF_MEMORY", -3, 90)]}, "OUT_OF_MEMORY"),
        ({"12": [start("RUNNING", -3)]}, "running"),
        ({"12": [start("COMPLETED", -3, 90)]}, "completed"),
        ({"12": [start("PREEMPTED", -3, 90), start("RUNNING", 120)]}, "PREEMPTED"),
        ({"12": [start("NODE_FAIL", -900, -600), start("RUNNING", -3)]}, "running"),
        ({"12": [start("RUNNING", 120)]}, "requeued"),
        ({"13": [start("RUNNING", 120)]}, "killed"),
        ({}, "killed"),
        (None, "unknown"),
    ],
)
def test_how_a_job_was_killed_is_what_slurm_says_of_that_start(known, state):
    assert job_records.settled(LOST, known)[0] == state


def test_a_failed_attempt_takes_slurms_reason_but_not_its_mere_failure():
    failed = replace(LOST, state="failed", ended=(BEGAN + timedelta(seconds=80)).isoformat())
    assert job_records.settled(failed, {"12": [start("OUT_OF_MEMORY", -3, 90)]})[0] == "OUT_OF_MEMORY"
    for known in ({"12": [start("FAILED", -3, 90)]}, {"12": [start("COMPLETING", -3)]}, {}, None):
        assert job_records.settled(failed, known) == ("failed", BEGAN + timedelta(seconds=80))


def test_names_with_dots_and_rules_without_wildcards_have_folders_of_their_own():
    assert job_records.folder_of("logs/train/v1.5/seed-1.log") == Path("logs/jobs/train/v1.5/seed-1")
    assert job_records.folder_of("logs/summarize.log") == Path("logs/jobs/summarize")


def test_a_record_is_plain_json():
    run()
    value = files.read_json(job_records.path_of(the_record()))
    assert value["rule"] == "train" and json.dumps(value)


def test_records_of_a_module_with_a_prefix_are_below_the_prefix():
    assert job_records.folder_of("logs/train/base/seed-1.log") == Path("logs/jobs/train/base/seed-1")
    assert job_records.folder_of("answers/a/logs/train/base/s.log") == Path("answers/a/logs/jobs/train/base/s")
    assert job_records.within_logs("answers/logs/train/base/seed-1.log") == Path("train/base/seed-1.log")
