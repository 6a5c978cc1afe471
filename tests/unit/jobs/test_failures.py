"""The summary of failed jobs, from Snakemake's events as real runs send them, locally and on SLURM."""

import logging
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from qa.common.files import write_json
from qa.jobs import advice, failures, job_records, slurm_accounting
from qa.jobs.failures import FailureHandler
from qa.jobs.job_records import JobRecord
from qa.jobs.slurm_accounting import Start

LOG = "logs/train/other/seed-1.log"
BEGAN = datetime(2026, 11, 22, 22, 0, 0, 868950, UTC)
GROUPED = (
    ("train", 12, "logs/train/small/seed-1.log"),
    ("predict", 11, "logs/predict/small/seed-1/mills/validation.log"),
)


def job_error(rule="train", jobid=3, logs=(LOG,), message=None, indent=False, **aux):
    """Snakemake's event for a job that failed."""
    event = {"event": LogEvent.JOB_ERROR, "rule_name": rule, "jobid": jobid, "rule_msg": message, "log": [*logs]}
    return {**event, "aux": aux, "indent": indent}


def on_slurm(job=14, state="TIMEOUT"):
    """The same for a job that SLURM ended."""
    message = f"SLURM-job '{job}' failed, SLURM status is: '{state}'. Detailed failure reason unavailable (status "
    message += "command is not 'sacct').For further error details see the cluster/cloud log and the log files of the "
    slurm_log = str(Path.cwd() / f"logs/slurm/rule_train/other_seed-1/{job}.log")
    return job_error(logs=(LOG, slurm_log), message=f"{message}involved rule(s).", external_jobid=job)


def group_error():
    """Snakemake's events for a group of jobs that failed."""
    jobs = [{"rule_name": rule, "jobid": jobid, "log": [log]} for rule, jobid, log in GROUPED]
    slurm_log = str(Path.cwd() / "logs/slurm/group_chain_predict_train/20.log")
    event = {"event": LogEvent.GROUP_ERROR, "groupid": "chain", "aux_logs": [slurm_log], "job_error_info": jobs}
    return [{**event, "external_jobid": 20}, *(job_error(rule, n, [log], indent=True) for rule, n, log in GROUPED)]


FINISHED = {"event": LogEvent.JOB_FINISHED, "job_id": 3}


@pytest.fixture(autouse=True)
def known(tmp_path, monkeypatch):
    """What SLURM knows, free to change; a working directory of its own; no profile."""
    starts: dict[str, list[Start]] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm_accounting, "starts_of", lambda jobs: starts)
    monkeypatch.setattr(sys, "argv", ["snakemake"])
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    return starts


def told(*events, failed=(), stopped=False):
    handler = FailureHandler()
    handler.began = BEGAN
    for event in events:
        handler.emit(logging.makeLogRecord(event))
    return handler.summary(failed, stopped)


def record(rule="train", names=("other", "seed-1"), job="14", state="running", after=10.0, seconds=60.0):
    log = Path("logs", rule, *names).with_suffix(".log")
    wildcards = dict(zip(("run", "variant", "dataset", "split"), names, strict=False))
    began = BEGAN + timedelta(seconds=after)
    ended = None if state == "running" else (began + timedelta(seconds=seconds)).isoformat()
    made = JobRecord(rule, wildcards, str(log), began.isoformat(), state, ended, "gpu1", "1:2")
    made.asked = {"memory_mib": 8000.0, "seconds": 3600}
    made.slurm = {"job": job} if job else {}
    write_json(job_records.path_of(made), asdict(made))
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def start(state, after=0.0, ended=3600.0):
    began = BEGAN + timedelta(seconds=after)
    return Start(state, began, began, BEGAN + timedelta(seconds=ended))


def test_rule_run_seed_job_state_and_the_logs_last_lines_are_told(known):
    log = record()
    log.write_text("".join(f"line {number}\n" for number in range(30)))
    known["14"] = [start("TIMEOUT")]
    text = told(on_slurm())
    assert "1 job failed:" in text
    assert "train other, seed-1: TIMEOUT, SLURM job 14 on gpu1, after 59 min 50 s of 1 h" in text
    assert "log: logs/train/other/seed-1.log" in text
    assert "| line 29" in text and "| line 20\n" in text and "| line 19\n" not in text
    assert "It reached its walltime: ask for more `runtime` than 1 h" in text
    assert "continues from the last checkpoint" in text


def test_a_job_that_finished_in_a_later_attempt_has_not_failed():
    text = told(on_slurm(), FINISHED)
    assert "failed" not in text and "give the same command again" in text


def test_of_several_attempts_the_last_is_told_once(known):
    record(job="11", after=10)
    record(job="14", after=4000)
    known["11"], known["14"] = [start("TIMEOUT")], [start("OUT_OF_MEMORY", 3990, 5000)]
    text = told(on_slurm(11), on_slurm(14, "OUT_OF_MEMORY"))
    assert "1 job failed:" in text and "OUT_OF_MEMORY, SLURM job 14" in text and "job 11" not in text
    assert "ask for more `mem_mb` than 8,000 MiB" in text


def test_a_failure_told_once_more_at_the_end_keeps_slurms_log(known):
    slurm_log = Path("logs/slurm/rule_train/other_seed-1/14.log")
    slurm_log.parent.mkdir(parents=True)
    slurm_log.write_text("why\n")
    text = told(on_slurm(state="NODE_FAIL"), job_error())
    assert "1 job failed:" in text and "train other, seed-1: NODE_FAIL, SLURM job 14" in text and "| why" in text


def test_a_job_that_died_before_its_stage_began_is_told_by_slurms_log(known):
    old = record(job="9", state="failed", after=-90_000)
    old.write_text("of yesterday\n")
    slurm_log = Path("logs/slurm/rule_train/other_seed-1/14.log")
    slurm_log.parent.mkdir(parents=True)
    slurm_log.write_text("ModuleNotFoundError: No module named 'qa'\n")
    known["14"] = [start("FAILED")]
    text = told(on_slurm(state="FAILED"))
    assert "train other, seed-1: FAILED, SLURM job 14" in text
    assert f"log: {slurm_log}\n      | ModuleNotFoundError: No module named 'qa'" in text and "of yesterday" not in text


def test_where_slurm_has_forgotten_the_job_snakemakes_word_is_told():
    record()
    assert "train other, seed-1: NODE_FAIL, SLURM job 14" in told(on_slurm(state="NODE_FAIL"))


def test_a_training_that_stopped_itself_is_not_called_a_failure_of_slurm(known):
    record(state="interrupted", seconds=3000)
    known["14"] = [start("FAILED")]
    text = told(on_slurm(state="FAILED"))
    assert "train other, seed-1: interrupted, SLURM job 14 on gpu1, after 50 min of 1 h" in text
    assert "the same command continues" in text


def test_after_ctrl_c_only_jobs_that_failed_by_themselves_are_failures():
    record(state="interrupted", job=None)
    text = told(job_error(), stopped=True)
    assert len(text.splitlines()) <= 3 and "Stopped by Ctrl-C" in text and "failed" not in text
    record(state="failed", job=None, after=20.0)
    text = told(job_error(), stopped=True)
    assert "train other, seed-1: failed" in text and "Stopped by Ctrl-C" in text


def test_a_local_job_that_was_killed_is_told(monkeypatch):
    monkeypatch.setattr(job_records.platform, "node", lambda: "gpu1")
    monkeypatch.setattr(job_records, "_process", lambda pid: "")
    record(job=None).write_text("about to die\n")
    text = told(job_error())
    assert "train other, seed-1: killed\n" in text and "most likely for memory" in text and "| about to die" in text


def test_a_local_job_without_any_record_is_told():
    text = told(job_error())
    assert (
        "train other, seed-1: failed\n" in text and "before its stage began" in text and "log: none was begun" in text
    )


def test_of_a_group_the_job_at_work_is_told(known):
    record("train", ("small", "seed-1"), "20", "completed", 10)
    record("predict", ("small", "seed-1", "mills", "validation"), "20", "failed", 100).write_text("no luck\n")
    known["20"] = [start("FAILED")]
    text = told(*group_error())
    assert "1 job failed:" in text
    assert "predict small, seed-1, mills, validation: FAILED, SLURM job 20 on gpu1" in text and "| no luck" in text
    known["20"] = [start("CANCELLED", -500, 5)]
    assert "CANCELLED, SLURM job 20" in told(*group_error())


def test_a_group_that_died_at_its_first_job_is_told_by_that_one(known):
    record("train", ("small", "seed-1"), "20", "running", 10)
    known["20"] = [start("CANCELLED")]
    text = told(*group_error())
    assert "1 job failed:" in text and "train small, seed-1: CANCELLED, SLURM job 20 on gpu1" in text


def test_of_many_failures_a_few_are_told_in_full():
    events = [job_error(jobid=seed, logs=[f"logs/train/other/seed-{seed}.log"]) for seed in range(101, 121)]
    lines = told(*events).splitlines()
    assert "20 jobs failed:" in lines and len(lines) < 60
    assert all(any(line.startswith(f"train other, seed-{seed}: failed") for line in lines) for seed in range(101, 121))


def test_a_message_of_several_lines_without_indent_is_told_whole():
    message = f"sbatch refused it:\nsecond line, \x1b[31mnot indented\n{'long ' * 99}\n"
    message += failures.GENERAL
    text = told(job_error(message=message), job_error("predict", 4, ["logs/predict/a.log"]))
    assert "2 jobs failed:" in text and "train other, seed-1: failed\n    log: none was begun\n" in text
    assert "      | sbatch refused it:\n      | second line, not indented\n" in text and "long " * 98 in text
    assert "before its stage began" in text and "For further" not in text


class Job:
    """Stands for a job of Snakemake."""

    def __init__(self, jobid, rule, log):
        self.jobid, self.rule, self.log = jobid, SimpleNamespace(name=rule), [log]

    def is_group(self):
        return False


def test_a_job_that_snakemake_refused_after_its_end_is_told_with_snakemakes_words():
    record(job=None, state="completed").write_text("done\n")
    error = {
        "event": LogEvent.ERROR,
        "msg": "MissingOutputException in rule train in file x:\nJob 3 completed, but no file",
    }
    text = told(error, failed=[Job(3, "train", LOG)])
    assert "train other, seed-1: failed after its stage had ended" in text
    assert "      | MissingOutputException in rule train in file x:\n      | Job 3 completed, but no file\n" in text


def test_an_event_of_another_shape_does_not_stop_the_run(capsys):
    assert "give the same command again" in told({"event": LogEvent.JOB_ERROR}, {"event": LogEvent.GROUP_ERROR}, {})
    assert "KeyError" in capsys.readouterr().err


TRACE = 'Traceback (most recent call last):\n  File "/a/b.py", line 1, in f\n    g(x)\n    ^^^^\n'


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "GPU's memory ran out"),
        ("MemoryError", "run fewer jobs at once"),
        ("RuntimeError: [enforce fail] Cannot allocate memory", "run fewer jobs at once"),
        ("OSError: [Errno 28] No space left on device", "make room"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "GPU or its driver failed"),
        ("ModuleNotFoundError: No module named 'qa'", "activate the environment"),
        ("pyarrow.lib.ArrowInvalid: Parquet magic bytes not found in footer", "is broken"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'x'", "A file is missing"),
    ],
)
def test_what_usually_helps_is_told_by_what_the_log_says(error, sentence):
    log = record(job=None, state="failed")
    log.write_text(f"22:00:09 train: ERROR {error} (traceback in {log})\n{TRACE}{error}\n")
    lines = told(job_error()).splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("train other, seed-1: failed"))
    assert sentence in lines[heading + 1] and lines[heading + 2] == f"    log: {log}"


def test_a_job_that_ran_out_of_memory_on_a_cluster_is_told_to_ask_for_more(known):
    log = record(state="failed")
    log.write_text("22:00:09 train: ERROR MemoryError: (traceback)\n")
    known["14"] = [start("FAILED")]
    assert "ask for more `mem_mb` than 8,000 MiB" in told(on_slurm(state="FAILED"))


def test_a_users_mistake_gets_no_advice_but_its_own_message():
    log = record(job=None, state="failed")
    log.write_text("22:00:09 train: ERROR models.overrides: BertConfig has no hidden_dropout\n")
    lines = told(job_error()).splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("train other, seed-1: failed"))
    assert lines[heading + 1] == f"    log: {log}"
    assert lines[heading + 2] == "      | 22:00:09 train: ERROR models.overrides: BertConfig has no hidden_dropout"


def test_the_summary_never_raises(monkeypatch):
    monkeypatch.setattr(failures, "_culprit", lambda failure, failures: 1 / 0)
    assert "ZeroDivisionError" in told(job_error())


@pytest.mark.parametrize(
    ("own", "rule", "key", "place"),
    [
        (None, "train", "mem_mb", "profiles/slurm/config.yaml, line 6; yours: --set-resources train:mem_mb=…"),
        (None, "predict", "runtime", "profiles/slurm/config.yaml, line 2; yours: --set-resources predict:runtime=…"),
        (None, "predict", "mem_mb", "--set-resources predict:mem_mb=…"),
        ("set-resources:\n  train:\n    mem_mb: 9000\n", "train", "mem_mb", "profiles/default/config.yaml, line 3"),
        ("default-resources:\n  runtime: 2h\n", "predict", "runtime", "profiles/default/config.yaml, line 2"),
    ],
)
def test_the_line_of_the_profile_is_named(own, rule, key, place, monkeypatch):
    profile = "default-resources:\n  runtime: 1h\nset-resources:\n  train:\n    # why\n    mem_mb: threads * 6000\n"
    for name, text in {"slurm": profile, "default": own}.items():
        if text:
            Path(f"profiles/{name}").mkdir(parents=True)
            Path(f"profiles/{name}/config.yaml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["snakemake", "--profile", "profiles/slurm", "-k"])
    assert advice.place_of_request(rule, key).startswith(place)
