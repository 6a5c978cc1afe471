"""A summary of the failed jobs at the end of a run: state, advice, and the last lines of each log.

The source is Snakemake's log events (`snakemake_interface_logger_plugins.common.LogEvent`), which a handler on its
logger keeps. Snakemake's text log is not read: a message of several lines has no structure there.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from qa.common.text import counted, readable_seconds
from qa.jobs import job_records, slurm_accounting
from qa.jobs.advice import advice
from qa.jobs.job_records import JobRecord
from qa.jobs.log_lines import error_lines, plain
from qa.jobs.slurm_accounting import Start

IN_FULL = 4  # failed jobs; each of the others has one line
CLUSTER_STATE = re.compile(r"SLURM status is: '(\w+)'")
GENERAL = "For further error details see the cluster/cloud log"  # what Snakemake appends to each executor's message
STOPPED = "\nStopped by Ctrl-C. Finished files and saved checkpoints are kept: the same command continues.\n"
AGAIN = "Finished files are kept. Remove the cause, then give the same command again."


@dataclass
class Failure:
    """A failed job: the event of its last attempt, and the record of that attempt where its stage began."""

    rule: str
    log: str | None  # of its stage
    cluster_logs: list[str] = field(default_factory=list)  # files of SLURM
    message: str = ""  # of Snakemake's executor
    slurm_job: str | None = None
    group: str | None = None
    record: JobRecord | None = None

    @property
    def cluster_state(self) -> str | None:
        """SLURM's state as the executor saw it."""
        state = CLUSTER_STATE.search(self.message)
        return state[1] if state else None

    @property
    def name(self) -> str:
        """The rule, and which of its jobs: by the record's wildcards, else by the path of the log."""
        wildcards = Path(self.log).with_suffix("").parts[2:] if self.log else ()
        return f"{self.rule} {', '.join(self.record.wildcards.values() if self.record else wildcards)}".rstrip()


class FailureHandler(logging.Handler):
    """Keeps what Snakemake's events say about failed jobs. A job that finishes in a later attempt is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.began = datetime.now(UTC)
        self.failures: dict[int, Failure] = {}  # by Snakemake's number of the job
        self.errors: list[str] = []  # messages outside of a job's event

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of one event; any other log record is ignored."""
        event = vars(record)
        try:
            match event.get("event"):
                case LogEvent.JOB_FINISHED:
                    self.failures.pop(event["job_id"], None)
                case LogEvent.JOB_ERROR if not event["indent"]:  # indented ones repeat a group's
                    self._add(event, event["log"], event["rule_msg"], event["aux"].get("external_jobid"))
                case LogEvent.GROUP_ERROR:
                    for job in event["job_error_info"]:
                        logs = [*job["log"], *event["aux_logs"]]
                        self._add(job, logs, "", event.get("external_jobid"), str(event["groupid"]))
                case LogEvent.ERROR:
                    self.errors.append(record.getMessage())
        except Exception:
            self.handleError(record)

    def _add(
        self, job: Mapping[str, Any], logs: list[str], message: str | None, slurm_job: Any, group: str | None = None
    ) -> None:
        # a job's own log is relative, the executor's logs are absolute
        log = next((name for name in logs if not Path(name).is_absolute()), None)
        cluster_logs = [name.removeprefix(f"{Path.cwd()}/") for name in logs if Path(name).is_absolute()]
        # Snakemake 9.17 reports all failures again at its end, without the executor's message and logs
        if message or cluster_logs or slurm_job or job["jobid"] not in self.failures:
            slurm_job = str(slurm_job) if slurm_job else None
            self.failures[job["jobid"]] = Failure(job["rule_name"], log, cluster_logs, message or "", slurm_job, group)

    def summary(self, failed: Iterable[Any] = (), stopped: bool = False) -> str:
        """The text for the terminal. `failed`: Snakemake's jobs that failed; some of them had no event.

        `stopped`: Ctrl-C has ended the run. Then a job is a failure only if its stage failed by itself.
        """
        try:
            for job in failed:
                if not job.is_group():
                    self._add_refusal(job)
            failures = self._last_attempts()
            if not stopped:
                return _summary(failures)
            failures = [failure for failure in failures if failure.record and failure.record.state == "failed"]
            return (_summary(failures) if failures else "") + STOPPED
        except Exception as error:  # the summary must never hide what made the run fail
            return f"\nNo summary of what failed ({type(error).__name__}: {error}); see above.\n{AGAIN}\n"

    def _add_refusal(self, job: Any) -> None:
        """What Snakemake said of a job that it refused after its stage had ended, such as one without its output."""
        log = next((str(file) for file in job.log), None)
        failure = self.failures.setdefault(job.jobid, Failure(job.rule.name, log))
        if not failure.message:
            failure.message = next((text for text in self.errors if f"Job {job.jobid} " in text), "")

    def _last_attempts(self) -> list[Failure]:
        """All failures with their records; of a group of jobs only the job that was at work."""
        failures = list(self.failures.values())
        for failure in failures:
            failure.record = self._record_of(failure)
            failure.slurm_job = failure.slurm_job or (failure.record.job if failure.record else None)
        return [failure for failure in failures if failure is _culprit(failure, failures)]

    def _record_of(self, failure: Failure) -> JobRecord | None:
        """The record of the last attempt; None where the stage did not begin in this run, or not in this SLURM job."""
        if failure.log is None or not Path(failure.log).is_relative_to(job_records.LOGS):
            return None
        records = job_records.read(job_records.folder_of(failure.log))
        records = [record for record in records if record.log == failure.log and record.began >= self.began]
        records = [record for record in records if record.job is None or failure.slurm_job in (None, record.job)]
        return records[-1] if records else None


def _culprit(failure: Failure, failures: list[Failure]) -> Failure:
    """Of a group of jobs, which end together, the one that was at work; any other failure itself."""
    group = [member for member in failures if failure.group and member.group == failure.group]
    at_work = [member for member in group if member.record and member.record.state != "completed"]
    return next(iter(at_work or group), failure)


def _summary(failures: list[Failure]) -> str:
    if not failures:
        return f"\n{AGAIN}\n"
    starts = slurm_accounting.starts_of(failure.slurm_job for failure in failures if failure.slurm_job)
    lines = ["", f"{counted(len(failures), 'job')} failed:"]
    for failure in failures[:IN_FULL]:
        lines += ["", *_in_full(failure, starts)]
    for failure in failures[IN_FULL:]:
        lines += ["", f"{_heading(failure, starts)}; log: {', '.join(_logs(failure)) or 'none was begun'}"]
    return "\n".join([*lines, "", AGAIN, ""])


def _in_full(failure: Failure, starts: dict[str, list[Start]] | None) -> list[str]:
    """Heading, advice, the names of the logs, what Snakemake's executor said, and a log's last lines."""
    state, logs = _state(failure, starts), _logs(failure)
    shown = next(filter(None, map(error_lines, logs)), [])
    said = "" if failure.cluster_state else failure.message.partition(GENERAL)[0]
    reason = [plain(line).rstrip() for line in said.splitlines() if line.strip()]
    if failure.record is None and not state.isupper():
        state = "failed" if reason else "unborn"
    text = advice(failure.rule, state, [*reason, *shown], failure.record, bool(failure.slurm_job))
    files = [log for log in logs if Path(log).is_file()]
    return [
        _heading(failure, starts),
        *(f"    {line}" for line in text),
        f"    log: {', '.join(files) or 'none was begun'}",
        *(f"      | {line}" for line in [*reason, *shown]),
    ]


def _logs(failure: Failure) -> list[str]:
    """The stage's log if this attempt began it (else it is an earlier attempt's), then SLURM's."""
    return [*([failure.log] if failure.record and failure.log else []), *failure.cluster_logs]


def _heading(failure: Failure, starts: dict[str, list[Start]] | None) -> str:
    """Rule, wildcards, state, SLURM job, node, and how long it took of its walltime."""
    text = f"{failure.name}: {_state(failure, starts)}"
    record = failure.record
    if failure.slurm_job:
        text += f", SLURM job {failure.slurm_job}" + (f" on {record.node}" if record else "")
    ended = job_records.settled(record, starts)[1] if record else None
    if record and ended:
        text += f", after {readable_seconds((ended - record.began).total_seconds())}"
        limit = record.asked.get("seconds")
        text += f" of {readable_seconds(limit)}" if limit else ""
    return text


def _state(failure: Failure, starts: dict[str, list[Start]] | None) -> str:
    """SLURM's state where it says more than that the job failed, else the record's."""
    own = job_records.settled(failure.record, starts)[0] if failure.record else "failed"
    last = (starts or {}).get(failure.slurm_job or "", [])[-1:]
    slurms = last[0].state if last and last[0].over else failure.cluster_state
    if own in ("interrupted", "stopped") or slurms in (None, "COMPLETED"):
        return "failed after its stage had ended" if own == "completed" else own
    return slurms
