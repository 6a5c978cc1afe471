"""How the workflow stands: what runs, what waits in SLURM's queue, what failed, what is done.

`qa status`, in the folder where the workflow runs: while Snakemake is at work elsewhere, and after it was killed. The
sources are the records of jobs (`qa.jobs.job_records`), the progress beside them and the ends of logs. SLURM is asked
twice at most, once by `squeue` and once by `sacct`.

The state of a job comes from the record of its last attempt, the start of its SLURM job in which that attempt ran, and
its process, which is gone if this node does not have it:

    record      start in SLURM         process          state
    ----------  ---------------------  ---------------  ---------------------------------------------------
    with end    any                    any              the record's, or SLURM's reason for a failure
    no end      SLURM knows its end    any              `completed`, or SLURM's, such as TIMEOUT
    no end      only a later start     any              `requeued`
    no end      SLURM knows no start   any              `killed`
    no end      any other, or no job   gone             `killed`
    no end      SLURM cannot be asked  not gone         `unknown`
    no end      not at its end         not gone         `running`
    no end      no SLURM job           on another node  `running?`
    no end      no SLURM job           on this node     `running`

A row of squeue that is newer (see `_is_newer`) counts instead. Its job is `queued`, `starting` or `suspended`, or has
the state in which SLURM ended it.
"""

import argparse
import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from qa.common import progress
from qa.common.progress import ProgressState
from qa.common.text import readable_seconds, text_table
from qa.jobs import job_records, slurm, slurm_accounting
from qa.jobs.job_records import JobRecord
from qa.jobs.log_lines import error_lines, plain
from qa.jobs.slurm_accounting import Start

SQUEUE = f"{slurm_accounting.SQUEUE}|%r|%Z|%k"  # and reason, working directory, comment
QUEUES = (Path("logs/slurm"), Path(".snakemake/slurm_logs"))  # where the executor keeps SLURM's logs
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD"}  # not started, or not again
COMMENT = re.compile(r"rule_(?P<rule>.+?)(?:_wildcards_(?P<names>.*))?")
VARIANT = re.compile(r"(.+?)_(seed-\d+(?:-latest)?|published|ensemble)(?:_(.*))?")
GROUPS = {"running": ("running", "running?", "unknown", "starting", "suspended"), "queued": ("queued",)}
HEADING = ("stage", "run", "variant", "item", "state", "job", "time")
LISTED = 20  # failed jobs without --all
EXPLAINED = 4  # failed jobs with the last lines of their logs
LAST_LINES = 4
STALE = 60.0  # seconds after which the age of a progress is shown
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass
class JobStatus:
    """A job as it stands. `item` is what it works on beside run and variant; times are aware, in UTC."""

    stage: str
    run: str
    variant: str
    item: str
    state: str
    since: datetime | None  # submitted if queued, started if running, ended otherwise
    slurm_job: str | None = None
    process: str | None = None
    node: str = ""
    reason: str = ""  # why it is queued, by SLURM
    log: str | None = None
    seconds: float | None = None  # from its start to its end, or to now
    progress: ProgressState | None = None
    last_lines: list[str] = field(default_factory=list)

    @property
    def group(self) -> str:
        """`running`, `queued`, `completed` or `failed`."""
        known = (group for group, states in GROUPS.items() if self.state in states)
        return next(known, "completed" if self.state == "completed" else "failed")


class QueueRow(NamedTuple):
    """A row of squeue: a job of this folder, with the comment that the executor gave it."""

    job: str
    start: Start
    reason: str
    comment: str


def of_folder(text: str, folder: Path) -> list[QueueRow]:
    """The jobs of a folder among squeue's rows in the format SQUEUE, oldest first; rows that are cut are left out."""
    found = []
    for line in text.splitlines():
        row = line.strip().split("|", 7)
        if len(row) == 8 and row[6] and Path(row[6]).resolve() == folder:
            ((job, start),) = slurm_accounting.from_squeue("|".join(row[:5])).items()
            found.append(QueueRow(job, start, row[5], row[7]))
    return sorted(found, key=lambda row: row.start.submitted or LONG_AGO)


def status() -> tuple[list[JobStatus], str]:
    """Each job that has begun here or is in SLURM's queue, as it stands now; and what SLURM could not say."""
    latest = {record.log: record for record in job_records.read()}  # oldest first, so the last attempt stays
    if not any(record.job for record in latest.values()) and not any(folder.is_dir() for folder in QUEUES):
        return [_of_record(record, {}) for record in latest.values()], ""
    squeue = ("squeue", "--me", "--noheader", "--states=all", f"--format={SQUEUE}")
    answer = slurm.ask(*squeue, patience=slurm_accounting.PATIENCE)
    queue = of_folder(answer or "", Path.cwd().resolve())
    unsettled = [record.job for record in latest.values() if record.job and record.state in ("running", "failed")]
    starts = None if answer is None else _starts(unsettled, queue)
    jobs = {log: _of_record(record, starts) for log, record in latest.items()}
    begun = {job.slurm_job: job for job in jobs.values() if job.slurm_job}
    logs = {comment_of(record): log for log, record in latest.items()}
    for row in queue:
        log = logs.get(row.comment, row.comment)
        if _is_newer(row, latest.get(log), begun.get(row.job)):
            jobs[log] = _of_row(row, latest.get(log))
    hindered = answer is None and (unsettled or shutil.which("squeue"))
    return list(jobs.values()), "squeue does not answer: what is queued is not known" if hindered else ""


def _starts(numbers: list[str], queue: list[QueueRow]) -> dict[str, list[Start]]:
    """The starts of SLURM jobs: by squeue's rows, and of jobs that are not at work by one call of sacct."""
    rows = {row.job: row.start for row in queue}
    gone = [number for number in numbers if number not in rows or rows[number].over][-slurm_accounting.AT_ONCE :]
    accounts = slurm_accounting.from_sacct(slurm_accounting.ask_sacct(gone))
    return slurm_accounting.merged(accounts, rows, numbers)


def comment_of(record: JobRecord) -> str:
    """The comment that the executor gives the job of a record in SLURM: its rule and wildcards."""
    names = "_".join(record.wildcards.values()).replace("/", "_")
    return f"rule_{record.rule}_wildcards_{names}" if names else f"rule_{record.rule}"


def _names(record: JobRecord) -> tuple[str, str, str]:
    """Run, variant, and the rest of a record's wildcards."""
    rest = [value for name, value in record.wildcards.items() if name not in ("run", "variant")]
    return record.wildcards.get("run", ""), record.wildcards.get("variant", ""), "/".join(rest)


def _of_record(record: JobRecord, starts: dict[str, list[Start]] | None) -> JobStatus:
    """A job by the record of its last attempt, and what SLURM knows."""
    state, ended = job_records.settled(record, starts)
    if state == "running" and record.job is None and record.node != platform.node():
        state = "running?"
    job = JobStatus(record.rule, *_names(record), state, ended, record.job, record.process.split(":")[0], record.node)
    running = job.group == "running"
    until = datetime.now(UTC) if running and ended is None else ended
    job.since = record.began if running else ended
    job.seconds = max(0.0, (until - record.began).total_seconds()) if until else None
    if os.path.isfile(record.log):  # noqa: PTH113, a name that no file can have is no error here
        job.log = record.log
    if running:
        job.progress = progress.read(job_records.progress_file(record))
    elif job.group == "failed" and job.log:
        job.last_lines = error_lines(job.log, LAST_LINES)
    return job


def _is_newer(row: QueueRow, latest: JobRecord | None, begun: JobStatus | None) -> bool:
    """Whether squeue knows more of a job than the records do.

    `latest`: the record of the last attempt at the same result; `begun`: what this very SLURM job has begun.
    """
    if row.start.state in WAITING:
        return True
    if row.start.state == "COMPLETED" or (begun and begun.state != "requeued"):
        return False
    started = row.start.started or row.start.ended
    later_attempt = latest is not None and started is not None and latest.began > started
    return row.start.state in slurm.ALIVE or not later_attempt


def _of_row(row: QueueRow, latest: JobRecord | None) -> JobStatus:
    """A job by squeue: one that waits, that has no record yet, or that ended before it had one."""
    rule, names = (latest.rule, _names(latest)) if latest else _of_comment(row.comment)
    if row.start.state not in slurm.ALIVE:
        job = JobStatus(rule, *names, row.start.state, row.start.ended, row.job)
    elif row.start.state in WAITING:
        job = JobStatus(rule, *names, "queued", row.start.submitted, row.job, reason=row.reason)
    else:
        state = "suspended" if row.start.state == "SUSPENDED" else "starting"
        job = JobStatus(rule, *names, state, row.start.started, row.job)
    if job.group == "failed":
        logs = (path for folder in QUEUES for path in folder.glob(f"*/**/{row.job}.log"))
        job.log = next((str(path) for path in logs if path.is_file()), None)
        job.last_lines = error_lines(job.log, LAST_LINES) if job.log else []
    return job


def _of_comment(comment: str) -> tuple[str, tuple[str, str, str]]:
    """Rule, and run, variant and the rest, by the executor's comment, in which `_` stands between wildcards."""
    parts = COMMENT.fullmatch(comment)
    if parts is None:
        return "?", ("", "", comment)
    variant = VARIANT.fullmatch(parts["names"] or "")
    return parts["rule"], (variant[1], variant[2], variant[3] or "") if variant else ("", "", parts["names"] or "")


def as_text(jobs: list[JobStatus], hindrance: str = "", everything: bool = False) -> str:
    """The jobs for the terminal; finished ones in a line a stage unless `everything`."""
    groups = {name: [job for job in jobs if job.group == name] for name in ("running", "queued", "failed", "completed")}
    groups["failed"].sort(key=lambda job: job.since or LONG_AGO, reverse=True)
    failed = groups["failed"] if everything else groups["failed"][:LISTED]
    listed = [*groups["running"], *groups["queued"], *failed, *(groups["completed"] if everything else [])]
    lines = [", ".join(f"{len(group)} {name}" for name, group in groups.items())]
    lines[0] += f"; {hindrance}" if hindrance else ""
    if listed:
        explained = {id(job) for job in failed[:EXPLAINED]}
        heading, *rows = _table([HEADING, *map(_cells, listed)])
        lines += ["", heading]
        for job, row in zip(listed, rows, strict=True):
            lines += [row, *_below(job, id(job) in explained)]
    if more := len(groups["failed"]) - len(failed):
        lines.append(f"and {more} more that failed: --all lists them")
    if groups["completed"] and not everything:
        lines += ["", *_table(_by_stage(groups["completed"]))]
    return "\n".join(map(plain, lines))


def _cells(job: JobStatus) -> tuple[str, ...]:
    """A job's row of the table, in the order of HEADING."""
    number = f"SLURM {job.slurm_job}" if job.slurm_job else f"process {job.process}"
    if job.group in ("running", "completed"):
        time = "" if job.seconds is None else readable_seconds(job.seconds, units=1)
    elif job.since is None:
        time = ""
    else:
        time = _age(job.since) if job.group == "queued" else f"{_age(job.since)} ago"
    state = f"queued ({job.reason})" if job.reason not in ("", "None") else job.state
    return job.stage, job.run, job.variant, job.item, state, number, time


def _age(moment: datetime) -> str:
    return readable_seconds(max(0.0, (datetime.now(UTC) - moment).total_seconds()), units=1)


def _below(job: JobStatus, explained: bool) -> Iterator[str]:
    """What stands below a job's row: how far it is, its log, the log's last lines."""
    if job.progress:
        age = job.progress.age
        old = f" ({readable_seconds(age, units=1)} ago)" if age >= STALE else ""
        yield f"    {job.progress.line.removeprefix(f'{job.stage}: ')}{old}"
    if job.log and job.group in ("running", "failed"):
        yield f"    log: {job.log}"
    if explained:
        yield from (f"      | {line}" for line in job.last_lines)


def _by_stage(completed: list[JobStatus]) -> list[tuple[str, ...]]:
    """A row a stage: how many jobs are done, how long the longest took, how long ago the last ended."""
    rows = [("done", "jobs", "longest", "last")]
    for stage in dict.fromkeys(job.stage for job in completed):
        jobs = [job for job in completed if job.stage == stage]
        longest = max((job.seconds for job in jobs if job.seconds is not None), default=None)
        last = max((job.since for job in jobs if job.since), default=None)
        time = "" if longest is None else readable_seconds(longest)
        rows.append((stage, str(len(jobs)), time, f"{_age(last)} ago" if last else ""))
    return rows


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    return text_table([tuple(map(plain, row)) for row in rows]).splitlines()


def as_json(jobs: Iterable[JobStatus], hindrance: str = "") -> str:
    """The jobs for programs: `jobs`, a list of the fields of JobStatus and `group`, and `hindrance`."""
    listed = [{**asdict(job), "group": job.group} for job in jobs]
    return json.dumps({"jobs": listed, "hindrance": hindrance}, indent=2, default=datetime.isoformat)


def main(arguments: list[str] | None = None) -> int:
    """Print the status of the working directory's workflow; the exit code, 0 whatever the status is."""
    parser = argparse.ArgumentParser(prog="qa status", description="How the workflow in this folder stands.")
    parser.add_argument("--all", action="store_true", help="list finished jobs one by one")
    parser.add_argument("--json", action="store_true", help="for programs: every job with all that is known of it")
    options: Any = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s")
    jobs, hindrance = status()
    if options.json:
        print(as_json(jobs, hindrance))
    elif jobs:
        print(as_text(jobs, hindrance, options.all))
    else:
        print("no job has begun or is queued here" + (f"; {hindrance}" if hindrance else ""))
    return 0
