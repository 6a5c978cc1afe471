"""Corrects, for this run, what Snakemake's SLURM executor does wrong.

- A controller that does not answer. The executor gives up after some attempts and then loses all jobs. Here it asks
  until there is an answer.
- A job that squeue has forgotten. The executor takes it as still running. Here accounting, or the record that the job
  itself wrote, says how it ended.
- Too many questions and submissions. The executor asks every 15 s as long as jobs end, and submits as fast as it can.
  Here the pause grows with the number of jobs, to a minute, and there is a second between two submissions.
- Snakemake's limit of jobs a second. For each job that ended, it wakes the scheduler every second, as long as jobs wait
  for others to end. With hundreds of waiting jobs the login node is then always busy. Here there is no such limit.
- A submission that SLURM refuses for now. The executor takes it as a failed job. Here it is submitted again.
- A training that stopped itself before its walltime, where the cluster forbids that it requeues itself. It starts again
  without costing one of its `retries`.
- Names of jobs. The executor gives all jobs of a call the same long number. Here they have rule, run and seed.

The executor's module gets other functions under the names that it calls, so its own loop stays as it is.
"""

import asyncio
import math
import os
import re
import shlex
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snakemake.logging import logger

from qa.jobs import job_records, slurm, slurm_accounting
from qa.preflight.slurm_requests import FULL, UNANSWERED

PAUSE, LONGEST_PAUSE = 10.0, 180.0  # seconds between two questions: each pause is twice the one before
SPACING = 1.0  # seconds between two submissions, so that a thousand jobs do not reach the controller at once
LEAST_PAUSE = 60.0  # seconds between two questions for the states of that many jobs; for n fewer, n seconds
FOR_NOW = re.compile(rf"{'|'.join(UNANSWERED)}|{FULL}|temporarily unable to accept job")
HELD = "PENDING,CONFIGURING,RUNNING"  # states of a job that SLURM has taken
UUID_LENGTH = 36
# in the executor's module
REPLACED = ("get_account", "get_min_job_age", "query_job_status", "get_submit_command", "subprocess")
ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL")  # to the executor


@dataclass
class Shared:
    """What the functions here know of this run."""

    logs: dict[str, list[str]] = field(default_factory=dict)  # of the stages in each SLURM job, as last checked
    numbers: set[str] = field(default_factory=set)  # SLURM jobs submitted so far
    announced: str | None = None  # the refusal that the user was told
    ending: threading.Event = field(default_factory=threading.Event)  # no more waiting for SLURM
    turn: threading.Lock = field(default_factory=threading.Lock)  # of the executor's threads, to submit
    next_submission: float = 0.0  # not before this time of the monotonic clock


def before_jobs(workflow):
    """Correct the executor. For `onstart`, so not in jobs."""
    if not workflow.is_main_process or workflow.executor_plugin.name != "slurm":
        return
    import snakemake_executor_plugin_slurm as plugin

    if not all(hasattr(plugin, name) for name in REPLACED):
        logger.warning("This version of the SLURM executor is not known: if squeue forgets a job, Snakemake may hang.")
        return
    workflow.scheduler.job_rate_limiter = None
    for name in os.environ.keys() - slurm.environment(os.environ):  # or the executor's squeue may hide its jobs
        del os.environ[name]
    shared = Shared()
    settings = workflow.executor_settings
    if settings.status_command == "squeue" and not settings.efficiency_report:  # sacct asks by the long number
        plugin.get_submit_command = _naming(plugin.get_submit_command)
    plugin.get_account = lambda logger: None  # its own call of sacct always fails, and prints how to use sacct
    plugin.get_min_job_age = lambda: math.inf  # or the executor leaves squeue for sacct
    plugin.query_job_status = _patient(plugin.query_job_status, shared)
    plugin.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": lambda *a, **o: Submission(shared, *a, **o)})
    executor = plugin.Executor
    executor.report_job_error = _sparing(executor.report_job_error)
    executor.check_active_jobs = _noting(executor.check_active_jobs, shared)
    executor.cancel, executor.shutdown = _ending(executor.cancel, shared), _ending(executor.shutdown, shared)


def _naming(submit_command):
    """The executor's call of sbatch, with a name that a person can read in squeue and in mails.

    The executor's name is a UUID, after the user's `slurm-jobname-prefix` if there is one.
    """

    def named(job, params, *arguments, **options):
        name = re.sub(r"^rule_(\w+?)_wildcards_", r"\1_", params["comment_str"]).removeprefix("rule_")
        prefix = params["run_uuid"][:-UUID_LENGTH]
        return submit_command(job, {**params, "run_uuid": prefix + name}, *arguments, **options)

    return named


def _noting(check, shared):
    """The executor's check of jobs, which first notes the logs of each job, and then pauses longer for many jobs."""

    async def checked(self, active_jobs):
        shared.logs = {info.external_jobid: _logs_of(info) for info in active_jobs}
        async for info in check(self, active_jobs):
            yield info
        pause = min(len(active_jobs), LEAST_PAUSE)
        self.next_seconds_between_status_checks = max(self.next_seconds_between_status_checks, pause)

    return checked


def _sparing(report):
    """The executor's report of a failed job, which does not count a planned stop as one of the job's attempts."""

    def reported(self, info, msg=None, **options):
        if "SLURM status is: 'FAILED'" in (msg or "") and "interrupted" in _states(info.external_jobid, _logs_of(info)):
            info.job.attempt -= 1
        report(self, info, msg=msg, **options)

    return reported


def _ending(end, shared):
    """The executor's function that ends it, which first ends all waiting for SLURM and drops what is not submitted."""

    def ended(self):
        shared.ending.set()
        if pool := getattr(self, "_job_submission_executor", None):  # not in version 2.5.3
            pool.shutdown(cancel_futures=True)
        end(self)

    return ended


def _patient(query, shared):
    """The executor's question for the states of its jobs, repeated until SLURM answers, with the forgotten jobs."""

    async def answer(command, executors_logger):
        by_squeue = command.startswith("squeue")
        if by_squeue:
            command = re.sub(r"--name \S+", "--me --all", command)  # whatever their names; partitions can be hidden
        pause = PAUSE
        while (found := await query(command, executors_logger))[0] is None and not shared.ending.is_set():
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        states, seconds = found
        if states is None:
            return found
        states = {job: state.partition(" ")[0] for job, state in states.items()}  # `CANCELLED by 1000`
        asked = {job: files for job, files in shared.logs.items() if by_squeue and job.isdigit()}  # no tasks of arrays
        forgotten = {job: files for job, files in asked.items() if job not in states}
        return states | await asyncio.to_thread(final_states, forgotten), seconds

    return answer


def final_states(logs: dict[str, list[str]]) -> dict[str, str]:
    """How SLURM jobs ended that squeue no longer lists, by job id: one of ENDS. Empty if SLURM cannot be asked.

    Accounting says it, else the records of the job's stages, whose log files are `logs`: `COMPLETED` if all of them
    say so.
    """
    starts = slurm_accounting.starts_of(logs)
    return {} if starts is None else {job: _end_of(job, files, starts.get(job, [])) for job, files in logs.items()}


def _end_of(job: str, logs: list[str], starts: list[slurm_accounting.Start]) -> str:
    if starts and starts[-1].state not in slurm.ALIVE:
        return starts[-1].state if starts[-1].state in ENDS else "FAILED"
    states = _states(job, logs)
    return "COMPLETED" if states and all(state == "completed" for state in states) else "FAILED"


def _states(job: str, logs: list[str]) -> list[str | None]:
    """The state in the last record of each stage of a SLURM job; None for a stage without a record."""
    records = ([r for r in job_records.read(job_records.folder_of(log)) if r.job == job] for log in logs)
    return [own[-1].state if own else None for own in records]


def _logs_of(info) -> list[str]:
    """The log files of a job's stages."""
    return [str(stage.log[0]) for stage in (info.job.jobs if info.job.is_group() else [info.job]) if stage.log]


class Submission:
    """A call of sbatch, in place of the executor's `subprocess.Popen`: repeated while SLURM refuses it for now."""

    def __init__(self, shared: Shared, call: str, **options: Any):
        self.shared, self.call, self.options = shared, call, options
        self.returncode = 1

    def communicate(self, input: str | None = None) -> tuple[str, str]:
        """Standard output and error of the last call of sbatch; `returncode` is its exit code."""
        out, err = self._call(input)
        if self.returncode == 0:
            self.shared.announced = None
        pause, reason = PAUSE, ""
        while self.returncode != 0 and (refusal := FOR_NOW.search(err)):
            self._announce(reason or refusal[0])
            if self.shared.ending.wait(pause):
                break
            pause = min(2 * pause, LONGEST_PAUSE)
            held = self._held()
            reason = "squeue does not answer" if held is None else ""
            if held == "":
                out, err = self._call(input)
            elif held:  # SLURM took the job, but its answer came too late
                out, err, self.returncode = held, "", 0
                self.shared.numbers.add(held)
        return out, err

    def _call(self, input: str | None) -> tuple[str, str]:
        with self.shared.turn:
            if self.shared.ending.wait(max(0.0, self.shared.next_submission - time.monotonic())):
                return "", "not submitted, since Snakemake ends"
            self.shared.next_submission = time.monotonic() + SPACING
        with subprocess.Popen(self.call, **self.options) as process:
            out, err = process.communicate(input)
        self.returncode = process.returncode
        if self.returncode == 0:
            self.shared.numbers.add(out.strip().partition(";")[0])
        return out, err

    def _announce(self, refusal: str) -> None:
        if refusal != self.shared.announced:
            self.shared.announced = refusal
            logger.warning(
                f"SLURM takes no jobs for now ({refusal}). They are submitted again, first after {PAUSE:g} s,"
                f" later every {LONGEST_PAUSE:g} s. Ctrl-C ends the wait."
            )

    def _held(self) -> str | None:
        """The job if SLURM has it and no call knows its number; empty if not; None if SLURM cannot be asked."""
        words = shlex.split(self.call)
        comment = words[words.index("--comment") + 1]
        options = ("--me", "--all", "--noheader", f"--states={HELD}", "--format=%i|%Z|%k")
        rows = slurm.ask("squeue", *options)
        if rows is None:
            return None
        known = (row.strip().split("|", 2) for row in rows.splitlines())
        ours = (job for job, *rest in known if rest == [str(Path.cwd()), comment])
        return next((job for job in ours if job not in self.shared.numbers), "")
