"""What failed, for the terminal: which job, how SLURM saw its end, its log's last lines, and what usually helps."""

import itertools
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from qa.common.text import readable_seconds
from qa.jobs import job_records, slurm_accounting
from qa.jobs.job_records import Record

TOLD_IN_FULL = 4  # failed jobs; the rest in a line each
LAST_LINES = 10
WIDTH = 200  # characters of a log's line
TAIL = 2**16  # bytes of a log that are read
ERROR = re.compile(r"Error in rule (\w+):$")
VARIANT = re.compile(r" {8}rule (\w+):$")  # of a group of jobs that failed
FINISHED = re.compile(r"Finished jobid: (\d+)")
FIELD = re.compile(r"\s+(message|jobid|log|external_jobid): (.*)")
CLUSTER_JOB = re.compile(r"SLURM-job '(\d+)'")
STAMP = re.compile(r"\d\d:\d\d:\d\d \w+: [A-Z]+ ")  # of a stage's own lines
FRAME = re.compile(r" *File \".*\", line \d+")
TRACEBACK = "Traceback (most recent call last):"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # of terminals: colours and the like
CLUSTER_STATE = re.compile(r"SLURM status is: '(\w+)'")
AGAIN = "What is finished stays: put the cause right and give the same command again."

MEMORY = "It ran out of memory: ask for more {mem_mb}."
MEMORY_HERE = "It ran out of memory: run fewer jobs at once, or smaller batches."
WALLTIME = "It reached its walltime: ask for more {runtime}."
NODE = "Not the job's fault, it was the node's or the scheduler's: give the same command again."
HELP = {
    "OUT_OF_MEMORY": MEMORY,
    "TIMEOUT": WALLTIME,
    "DEADLINE": WALLTIME,
    "NODE_FAIL": NODE,
    "BOOT_FAIL": NODE,
    "PREEMPTED": NODE,
    "REVOKED": NODE,
    "CANCELLED": "It was cancelled, by scancel or with Snakemake itself: give the same command again.",
    "interrupted": "It stopped itself before its walltime, or when told to, and saved: the same command goes on.",
    "stopped": "It was stopped with Ctrl-C: the same command goes on.",
    "killed": "It was killed, and nobody knows how any more; if it was for memory: ask for more {mem_mb}.",
    "killed here": "It was killed, most likely for memory (`dmesg` tells): run fewer jobs at once, or smaller batches.",
    "unborn": "It ended before its stage began: modules, virtual environment, file system or memory of that node.",
}
# what usually helps, by what the end of the stage's log says; the first that fits
CAUSES = (
    (
        r"CUDA out of memory|OutOfMemoryError",
        "The GPU's memory ran out: ask for a larger GPU, raise training.accumulation_steps, or lower "
        "prediction.batch_size.",
    ),
    (r"MemoryError|[Cc]annot allocate memory|bad_alloc", MEMORY),
    (
        r"No space left on device|Disk quota exceeded",
        "The disk or your quota is full: make room (old checkpoints/, resources/ of models no longer used).",
    ),
    (
        r"CUDA error|NCCL|uncorrectable ECC|CUDNN_STATUS",
        "The GPU or its driver failed: give the same command again, and if it fails on one node only, leave that out.",
    ),
    (r"ModuleNotFoundError|ImportError", "A package is missing or of another version: activate the environment again."),
    (
        r"ArrowInvalid|HeaderTooLarge|JSONDecodeError",
        "A file that it reads is broken, after a full disk or a half-made copy: remove it, it is made again.",
    ),
    (
        r"FileNotFoundError",
        "A file has gone (clusters purge scratch): give the same command again; if it fails again, remove the folder "
        "that the file was in, it is made again.",
    ),
)


@dataclass
class Failure:
    """A failed job: what Snakemake's log says of it, and the record of its last attempt where one was begun."""

    rule: str
    logs: list[str] = field(default_factory=list)
    job: str | None = None
    cluster_state: str | None = None
    group: int | None = None  # jobs that SLURM saw as one have the same number
    record: Record | None = None
    before: "Failure | None" = None  # what was told of the same job earlier

    @property
    def stage_log(self) -> str | None:
        """The log of its stage, whose path tells which of the rule's jobs it is."""
        own = (log for log in self.logs if Path(log).with_suffix("").parts[:2] == (job_records.LOGS.name, self.rule))
        return next(own, None)

    @property
    def cluster_logs(self) -> list[str]:
        """SLURM's logs, which bear the number of the job."""
        return [log for log in self.logs if log != self.stage_log]


def report(log_files: str | Iterable[str]) -> str:
    """All that failed for good in the run of Snakemake that wrote these logs, most told of the first few."""
    names = [log_files] if isinstance(log_files, str) else list(log_files)
    try:
        return _report([failure for name in names for failure in failures(Path(name))])
    except Exception as error:  # it must never hide what made the run fail
        return f"\nNo summary of what failed ({type(error).__name__}: {error}); it is told above.\n{AGAIN}\n"


def _report(found: list[Failure]) -> str:
    if not found:
        return f"\n{AGAIN}\n"
    known = slurm_accounting.starts_of(failure.job for failure in found if failure.job)
    lines = ["", f"{len(found)} job{'s' * (len(found) > 1)} failed:"]
    for number, failure in enumerate(found):
        lines += ["", *_told(failure, known, number < TOLD_IN_FULL)]
    return "\n".join([*lines, "", AGAIN, ""])


def failures(log_file: Path) -> list[Failure]:
    """The jobs that Snakemake's log tells of as failed and not as finished later, each with its last attempt's record.

    A record that started before this run of Snakemake is of another attempt, and so is one of another SLURM job.
    """
    try:
        found = parsed(log_file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []
    began = _began(log_file)
    for failure in found:
        numbers = [Path(log).stem for log in failure.cluster_logs if Path(log).stem.isdigit()]
        failure.job = failure.job or next(iter(numbers), None)
        records = job_records.read(job_records.folder_of(failure.stage_log)) if failure.stage_log else []
        records = [r for r in records if r.log == failure.stage_log and r.began >= began]
        records = [r for r in records if r.job is None or failure.job in (None, r.job)]
        failure.record = records[-1] if records else None
        failure.job = failure.job or (failure.record.job if failure.record else None)
    return [failure for failure in found if failure is _culprit(failure, found)]


def _culprit(failure: Failure, found: list[Failure]) -> Failure:
    """Of a group of jobs, which end together, the one that was at work; any other failure itself."""
    group = [other for other in found if failure.group and other.group == failure.group]
    at_work = [other for other in group if other.record and other.record.state != "completed"]
    return next(iter(at_work or group), failure)


def parsed(text: str) -> list[Failure]:
    """Failed jobs by Snakemake's log: each `Error in rule` and each job of a failed group, unless it finished later.

    What holds for a whole group, SLURM's log and message, stands before its list of `jobs:`.
    """
    found: dict[str, Failure] = {}
    current, group, shared = None, None, Failure("")
    for number, line in enumerate(text.splitlines()):
        if not line.startswith(" "):
            heading = ERROR.match(line)
            current, group, shared = Failure(heading[1]) if heading else None, None, Failure("")
            if finished := FINISHED.match(line):
                found.pop(finished[1], None)
        elif line.strip() == "jobs:":
            current, group = None, number
        elif group and (heading := VARIANT.match(line)):
            current = replace(shared, rule=heading[1], logs=list(shared.logs), group=group)
        elif line.lstrip().startswith(("Error in rule", "[")):
            current = group = None  # a group's jobs once more
        elif part := FIELD.match(line):
            key, value = part.groups()
            if key == "jobid" and current:
                current.before = found.pop(value, None)
                found[value] = current
            else:
                _note(current or shared, key, value)
    # Snakemake 9.17 tells all failures once more at its end, without what it knew of SLURM
    return [last.before if last.before and not last.cluster_logs else last for last in found.values()]


def _note(failure: Failure, key: str, value: str) -> None:
    """Take up a line of Snakemake's log on a failure."""
    if key == "log":
        logs = value.removesuffix(" (check log file(s) for error details)").split(", ")
        failure.logs += [log.removeprefix(f"{Path.cwd()}/") for log in logs]
    elif key == "external_jobid":
        failure.job = value
    else:
        job, state = CLUSTER_JOB.search(value), CLUSTER_STATE.search(value)
        failure.job = job[1] if job else failure.job
        failure.cluster_state = state[1] if state else failure.cluster_state


def _began(log_file: Path) -> datetime:
    """When a run of Snakemake started, by the name of its log (`2026-11-22T220525.698268.snakemake.log`)."""
    try:
        return datetime.strptime(log_file.name.removesuffix(".snakemake.log"), "%Y-%m-%dT%H%M%S.%f").astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _told(failure: Failure, known: Any, in_full: bool) -> list[str]:
    record = failure.record
    state = _state(failure, known)
    where = f", SLURM job {failure.job}" if failure.job else ""
    where += f" on {record.node}" if record and failure.job else ""
    heading = f"{failure.rule} {_names(failure)}: {state}{where}{_times(failure, known)}"
    own = failure.stage_log if record else None  # else it is an earlier attempt's
    logs = [log for log in (own, *failure.cluster_logs) if log]
    if not in_full:
        return [f"{heading}; log: {', '.join(logs) or 'none was begun'}"]
    lines = [heading]
    cause = "killed here" if state == "killed" and not failure.job else state
    shown = next(filter(None, map(telling_lines, logs)), [])
    advice = HELP.get(cause if record or state.isupper() else "unborn") or _by_cause(shown)
    if advice == MEMORY and not failure.job:
        advice = MEMORY_HERE
    if advice:
        lines.append("    " + advice.format(**{key: _request(failure, key) for key in ("mem_mb", "runtime")}))
        if advice == WALLTIME and failure.rule == "train":
            lines.append("    What was saved stays: the same command goes on from the last checkpoint.")
    lines.append(f"    log: {', '.join(log for log in logs if Path(log).is_file()) or 'none was begun'}")
    return lines + [f"      | {line}" for line in shown]


def _state(failure: Failure, known: Any) -> str:
    """SLURM's word where it has one that says more than that the job failed, else the record's."""
    starts = (known or {}).get(failure.job or "", [])
    last = starts[-1].state if starts and starts[-1].over else failure.cluster_state
    own = job_records.settled(failure.record, known)[0] if failure.record else "failed"
    if own in ("interrupted", "stopped") or last in (None, "COMPLETED"):
        return own if own != "completed" else "failed after its stage had ended"
    return last


def _names(failure: Failure) -> str:
    """Which of its rule's jobs it is: by the record's wildcards, else by the path of its log."""
    if failure.record:
        return ", ".join(failure.record.wildcards.values())
    return ", ".join(Path(failure.stage_log or "").with_suffix("").parts[2:])


def _times(failure: Failure, known: Any) -> str:
    if failure.record is None:
        return ""
    ended = job_records.settled(failure.record, known)[1]
    limit = failure.record.asked.get("seconds")
    if ended is None:
        return ""
    after = f", after {readable_seconds((ended - failure.record.began).total_seconds())}"
    return after + (f" of {readable_seconds(limit)}" if limit else "")


def last_lines(file: str | Path, count: int = LAST_LINES) -> list[str]:
    """The last lines of a log, long ones cut, without what would steer a terminal; none where it cannot be read."""
    try:
        with open(file, "rb") as stream:
            stream.seek(-min(TAIL, stream.seek(0, os.SEEK_END)), os.SEEK_END)
            text = stream.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return []
    lines = [printable(line).rstrip() for line in text.splitlines() if line.strip()]
    return [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines[-count:]]


def telling_lines(file: str | Path, count: int = LAST_LINES) -> list[str]:
    """A log's last lines; of a traceback at its end only what was raised and where, after the stage's own lines."""
    lines = last_lines(file, TAIL)
    own = max((number for number, line in enumerate(lines) if STAMP.match(line)), default=-1) + 1
    if TRACEBACK in lines[own:]:
        trace = [line for line in lines[own:] if line.strip(" ^~")]
        place = max((number for number, line in enumerate(trace) if FRAME.match(line)), default=0)
        lines = [*lines[:own], *trace[place:][-count + 1 :]]
    return lines[-count:]


def _by_cause(lines: list[str]) -> str | None:
    """What usually helps, by a log's last lines; None where they say nothing that is known."""
    text = "\n".join(lines)
    return next((advice for pattern, advice in CAUSES if re.search(pattern, text)), None)


def printable(text: str) -> str:
    """A text without escape sequences and other characters that do more than show."""
    return "".join(c if c.isprintable() else " " for c in ESCAPE.sub("", text))


def _request(failure: Failure, key: str) -> str:
    """A requested resource in words: its name, what it was, and its place in the profile."""
    asked = failure.record.asked if failure.record else {}
    was = {
        "mem_mb": f" than {asked['memory_mib']:,.0f} MiB" if asked.get("memory_mib") else "",
        "runtime": f" than {readable_seconds(asked['seconds'])}" if asked.get("seconds") else "",
    }[key]
    place = place_of_request(profile_in_use(), failure.rule, key)
    return f"`{key}`{was}" + (f" ({place})" if place else "")


def profile_in_use() -> Path | None:
    """The file of the profile that Snakemake was called with; None without one."""
    parts = [part for argument in sys.argv for part in argument.split("=", 1)]
    named = [after for option, after in itertools.pairwise(parts) if option == "--profile"]
    name = named[-1] if named else os.environ.get("SNAKEMAKE_PROFILE", "")
    for file in (Path(name) / "config.yaml", Path(name)):
        if name and file.is_file():
            return file
    return None


def place_of_request(profile: Path | None, rule: str, key: str) -> str:
    """Where a rule's resource is set, `FILE, line N`; else where it can be set.

    The site's own file beside the profile (`site.yaml`) wins over the profile.
    """
    if profile is None:
        return f"--set-resources {rule}:{key}=…"
    site = profile.with_name("site.yaml")
    for file, paths in (
        (site, ([rule, key], ["jobs", key])),
        (profile, (["set-resources", rule, key], ["default-resources", key])),
    ):
        for path in paths:
            if line := _line_of(file, path):
                place = f"{file}, line {line}"
                kept = file == profile and site.name in profile.read_text(encoding="utf-8")
                return f"{place}, or rather `{rule}:` in {site}" if kept else place
    return f"{profile}: set-resources: {rule}: {key}"


def _line_of(file: Path, keys: list[str]) -> int | None:
    """Line of a nested key of a YAML file, counted from 1; None where there is none."""
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    line = None
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((name, value) for name, value in pairs if name.value == key), None)
        if found is None:
            return None
        line, node = found[0].start_mark.line + 1, found[1]
    return line
