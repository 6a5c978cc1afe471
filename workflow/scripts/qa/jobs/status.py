"""How the workflow stands: what runs, what waits in SLURM's queue, what failed, what is done.

`python -m qa.jobs.status`, or `make status`, in the folder where the workflow runs: while Snakemake is at work
elsewhere, and after it was killed. It reads what jobs wrote of themselves (`qa.jobs.job_records`) and the ends of their
logs, and asks SLURM twice at most, once `squeue` and once `sacct`. `--all` lists finished jobs one by one, `--json` is
for programs.
"""

import argparse
import json
import logging
import platform
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qa.common import progress
from qa.common.progress import Told
from qa.common.text import readable_seconds, text_table
from qa.jobs import job_records, slurm, slurm_accounting
from qa.jobs.job_records import Record
from qa.jobs.log_lines import error_lines, last_lines, printable
from qa.jobs.slurm_accounting import Start

SQUEUE = f"{slurm_accounting.SQUEUE}|%r|%Z|%k"  # and reason, working directory, comment
QUEUES = (Path("logs/slurm"), Path(".snakemake/slurm_logs"))  # where the executor keeps SLURM's logs
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD"}
COMMENT = re.compile(r"rule_(?P<rule>.+?)(?:_wildcards_(?P<names>.*))?")
VARIANT = re.compile(r"(.+?)_(seed-\d+(?:-latest)?|published|ensemble)(?:_(.*))?")
GROUPS = {"running": ("running", "running?", "unknown", "starting", "suspended"), "queued": ("queued",)}
LISTED = 20  # failed jobs; with --all every one
EXPLAINED = 4  # of them with the last lines of their logs
LAST_LINES = 4
STALE = 60.0  # seconds after which a progress line's age is told


@dataclass
class Job:
    """A job as it stands. `of` is what it works on beside run and seed; times are aware, in UTC."""

    stage: str
    run: str
    seed: str
    of: str
    state: str
    since: datetime | None  # submitted if queued, started if running, ended otherwise
    slurm_job: str | None = None
    process: str | None = None
    node: str = ""
    reason: str = ""  # why it is queued, by SLURM
    log: str | None = None
    seconds: float | None = None  # from its start to its end, or to now
    progress: Told | None = None
    progress_age: float | None = None  # seconds
    last_lines: list[str] = field(default_factory=list)

    @property
    def group(self) -> str:
        """`running`, `queued`, `completed` or `failed`."""
        known = (group for group, states in GROUPS.items() if self.state in states)
        return next(known, "completed" if self.state == "completed" else "failed")


@dataclass(frozen=True)
class Queued:
    """A row of squeue: a job of this folder, with the name that the executor gave it."""

    job: str
    start: Start
    reason: str
    comment: str


def of_folder(text: str, folder: Path) -> list[Queued]:
    """The jobs of a folder among squeue's rows in the format SQUEUE, oldest first; rows that are cut are left out."""
    found = []
    for line in text.splitlines():
        row = line.strip().split("|", 7)
        if len(row) == 8 and row[6] and Path(row[6]).resolve() == folder:
            ((job, start),) = slurm_accounting.from_squeue("|".join(row[:5])).items()
            found.append(Queued(job, start, row[5], row[7]))
    return sorted(found, key=lambda row: row.start.submitted or datetime.min.replace(tzinfo=UTC))


def status() -> tuple[list[Job], str]:
    """Each job that has begun here or is in SLURM's queue, as it stands now; and what hinders to know it."""
    latest = {record.log: record for record in job_records.read()}  # oldest first, so the last attempt stays
    asked = [record for record in latest.values() if record.job and record.state in ("running", "failed")]
    if not any(record.job for record in latest.values()) and not any(folder.is_dir() for folder in QUEUES):
        return [_of_record(record, {}) for record in latest.values()], ""
    told = slurm.ask(
        "squeue", "--me", "--noheader", "--states=all", f"--format={SQUEUE}", patience=slurm_accounting.PATIENCE
    )
    queue = of_folder(told or "", Path.cwd().resolve())
    numbers = [record.job for record in asked if record.job]
    known = None if told is None else _known(numbers, queue)
    found = {log: _of_record(record, known) for log, record in latest.items()}
    begun = {job.slurm_job: job for job in found.values() if job.slurm_job}
    logs = {comment_of(record): log for log, record in latest.items()}
    for row in queue:
        log = logs.get(row.comment, row.comment)
        if changed := _of_row(row, latest.get(log), begun.get(row.job)):
            found[log] = changed
    lost = told is None and (asked or shutil.which("squeue"))
    return list(found.values()), "squeue does not answer: what is queued is not known" if lost else ""


def _known(numbers: list[str], queue: list[Queued]) -> dict[str, list[Start]]:
    """What SLURM knows of some jobs: squeue's rows, and for those that are not at work sacct's, by one call."""
    rows = {row.job: row.start for row in queue}
    gone = [number for number in numbers if number not in rows or rows[number].over][-slurm_accounting.AT_ONCE :]
    told = None
    if gone:
        command = ("sacct", "--noheader", "--parsable2", "--duplicates", f"--format={slurm_accounting.SACCT}")
        told = slurm.ask(*command, f"--jobs={','.join(gone)}", patience=slurm_accounting.PATIENCE)
    return slurm_accounting.merged(slurm_accounting.from_sacct(told or ""), rows, numbers)


def comment_of(record: Record) -> str:
    """What the executor names the job of a record in SLURM: its rule and wildcards."""
    names = "_".join(record.wildcards.values()).replace("/", "_")
    return f"rule_{record.rule}_wildcards_{names}" if names else f"rule_{record.rule}"


def _named(record: Record) -> tuple[str, str, str]:
    """Run, seed, and the rest of a record's wildcards."""
    rest = [value for name, value in record.wildcards.items() if name not in ("run", "variant")]
    return record.wildcards.get("run", ""), record.wildcards.get("variant", ""), "/".join(rest)


def _of_record(record: Record, known: dict[str, list[Start]] | None) -> Job:
    """A job by the record of its last attempt, and what SLURM knows."""
    state, ended = job_records.settled(record, known)
    elsewhere = record.job is None and record.node != platform.node()
    if state == "running" and elsewhere:
        state = "running?"
    made = Job(record.rule, *_named(record), state, ended, record.job, record.process.split(":")[0], record.node)
    age = _seconds_since_write(record.log)
    made.log = None if age is None else record.log
    made.since = record.began if made.group == "running" else ended
    until = ended or (datetime.now(UTC) if made.group == "running" else None)
    made.seconds = max(0.0, (until - record.began).total_seconds()) if until else None
    if made.group == "running" and made.log:
        made.progress, made.progress_age = progress.read(last_lines(made.log, 100)), age
    elif made.group == "failed" and made.log:
        made.last_lines = error_lines(made.log, LAST_LINES)
    return made


def _seconds_since_write(file: str) -> float | None:
    """How long ago a file was written to; None where there is no such file, or no such name is possible."""
    try:
        state = Path(file).stat()
    except (OSError, ValueError):
        return None
    return max(0.0, datetime.now(UTC).timestamp() - state.st_mtime) if stat.S_ISREG(state.st_mode) else None


def _of_row(row: Queued, before: Record | None, begun: Job | None) -> Job | None:
    """A job that only SLURM knows of: one that waits, that has no record yet, or that ended before it had one.

    `before` is the record of the last attempt at the same result, `begun` what this very job has begun.
    """
    waits, alive = row.start.state in WAITING, row.start.state in slurm.ALIVE
    if begun and not waits and begun.state != "requeued":
        return None
    at = row.start.submitted if waits else row.start.started or row.start.ended
    if row.start.state == "COMPLETED" or (before and not alive and at and before.began > at):
        return None
    if before:
        rule, names = before.rule, _named(before)
    else:
        rule, names = _of_comment(row.comment)
    state = row.start.state if not alive else "queued" if waits else "starting"
    state = "suspended" if row.start.state == "SUSPENDED" else state
    made = Job(rule, *names, state, at if alive else row.start.ended, row.job, reason=row.reason if waits else "")
    if made.group == "failed":
        logs = (path for folder in QUEUES for path in folder.glob(f"*/**/{row.job}.log"))
        made.log = next((str(path) for path in logs if path.is_file()), None)
        made.last_lines = error_lines(made.log, LAST_LINES) if made.log else []
    return made


def _of_comment(comment: str) -> tuple[str, tuple[str, str, str]]:
    """Rule, and run, seed and the rest, by the executor's comment, in which `_` stands between wildcards."""
    parts = COMMENT.fullmatch(comment)
    if parts is None:
        return "?", ("", "", comment)
    variant = VARIANT.fullmatch(parts["names"] or "")
    return parts["rule"], (variant[1], variant[2], variant[3] or "") if variant else ("", "", parts["names"] or "")


def as_text(found: list[Job], hindrance: str = "", everything: bool = False) -> str:
    """The jobs for the terminal, no line longer than WIDTH; finished ones in a line a stage unless `everything`."""
    names = ("running", "queued", "failed", "completed")
    groups = {name: [job for job in found if job.group == name] for name in names}
    counts = ", ".join(f"{len(some)} {name}" for name, some in groups.items())
    lines = ["; ".join(filter(None, (counts, hindrance)))]
    groups["failed"].sort(key=lambda job: job.since or datetime.min.replace(tzinfo=UTC), reverse=True)
    left = 0 if everything else len(groups["failed"][LISTED:])
    shown = [*groups["running"], *groups["queued"], *groups["failed"][: len(groups["failed"]) - left]]
    shown += groups["completed"] if everything else []
    explained = {id(job) for job in groups["failed"][:EXPLAINED]}
    if shown:
        rows = [("stage", "run", "seed", "of", "state", "job", "time"), *map(_cells, shown)]
        heading, *aligned = _aligned(rows)
        lines += ["", heading]
        for job, line in zip(shown, aligned, strict=True):
            lines += [line, *_below(job, id(job) in explained)]
    if left:
        lines.append(f"and {left} more that failed: --all lists them")
    if groups["completed"] and not everything:
        lines += ["", *_aligned(_summary(groups["completed"]))]
    return "\n".join(map(printable, lines))


def _cells(job: Job) -> tuple[str, ...]:
    number = f"SLURM {job.slurm_job}" if job.slurm_job else f"process {job.process}"
    if job.group in ("running", "completed"):
        time = "" if job.seconds is None else readable_seconds(job.seconds)
    else:
        time = "" if job.since is None else f"{_age(job.since)}{'' if job.group == 'queued' else ' ago'}"
    state = f"queued ({job.reason})" if job.reason not in ("", "None") else job.state
    return job.stage, job.run, job.seed, job.of, state, number, time


def _age(moment: datetime) -> str:
    return readable_seconds(max(0.0, (datetime.now(UTC) - moment).total_seconds()))


def _below(job: Job, explained: bool) -> Iterator[str]:
    """What stands below a job's line: how far it is, its log, the log's last lines."""
    if job.progress:
        age = job.progress_age or 0.0
        old = f" (said {readable_seconds(age)} ago)" if age >= STALE else ""
        yield f"    {job.progress.line.removeprefix(f'{job.stage}: ')}{old}"
    if job.log and job.group in ("running", "failed"):
        yield f"    log: {job.log}"
    if explained:
        yield from (f"      | {line}" for line in job.last_lines)


def _summary(completed: list[Job]) -> list[tuple[str, ...]]:
    """A row a stage: how many are done, how long the longest took, how long ago the last ended."""
    rows = [("done", "jobs", "longest", "last")]
    for stage in dict.fromkeys(job.stage for job in completed):
        some = [job for job in completed if job.stage == stage]
        longest = max((job.seconds for job in some if job.seconds is not None), default=None)
        last = max((job.since for job in some if job.since), default=None)
        told = "" if longest is None else readable_seconds(longest), f"{_age(last)} ago" if last else ""
        rows.append((stage, str(len(some)), *told))
    return rows


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    return text_table([tuple(map(printable, row)) for row in rows]).splitlines()


def as_json(found: Iterable[Job], hindrance: str = "") -> str:
    """The jobs for programs: `jobs`, a list of the fields of Job, and `hindrance`."""
    listed = [{**asdict(job), "group": job.group} for job in found]
    return json.dumps({"jobs": listed, "hindrance": hindrance}, indent=2, default=datetime.isoformat)


def main(arguments: list[str] | None = None) -> int:
    """Print the status of the working directory's workflow; the exit code, 0 whatever it is."""
    parser = argparse.ArgumentParser(prog="qa.jobs.status", description="How the workflow in this folder stands.")
    parser.add_argument("--all", action="store_true", help="list finished jobs one by one")
    parser.add_argument("--json", action="store_true", help="for programs: every job with all that is known of it")
    options: Any = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s")
    found, hindrance = status()
    if options.json:
        print(as_json(found, hindrance))
    elif found:
        print(as_text(found, hindrance, options.all))
    else:
        print("no job has begun or is queued here" + (f"; {hindrance}" if hindrance else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
