"""What SLURM knows of jobs: of the job of this process, and of many jobs at once, ended ones too.

Formats as in SLURM 22.05 and later: `scontrol show job --oneliner`, `squeue --format`, `sacct --parsable2`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from qa.jobs import slurm

PATIENCE = 10.0  # seconds for a question whose answer is useful but not needed
AT_ONCE = 200  # job ids in one call of sacct
SQUEUE = "%A|%T|%V|%S|%e"  # id as in SLURM_JOB_ID, which %i is not in an array; state, submitted, started, ended
SACCT = "JobIDRaw,State,Submit,Start,End,MaxRSS"
UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}  # in MiB


@dataclass(frozen=True)
class Start:
    """One start of a job and its end, times in UTC; a requeued job has several."""

    state: str
    submitted: datetime | None
    started: datetime | None
    ended: datetime | None
    peak_memory_mib: float | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended; a start that was requeued has the state REQUEUED."""
        return self.ended is not None


def this_job() -> dict[str, Any]:
    """The SLURM job of this process; empty outside of one, `job` alone if slurmctld does not answer.

    `job`, `submitted`, `started` (ISO, UTC), `seconds` of walltime, `cpus`, `memory_mib`, `gpus`: each where known.
    """
    job = slurm.job_id()
    if not job:
        return {}
    fields = fields_of(job)
    allocated = next((fields[key] for key in ("AllocTRES", "TRES", "ReqTRES") if "=" in fields.get(key, "")), "")
    tres = dict(part.split("=", 1) for part in allocated.split(",") if "=" in part)
    submitted, started = (moment(fields.get(name, "")) for name in ("SubmitTime", "StartTime"))
    found = {
        "job": job,
        "submitted": submitted and submitted.isoformat(),
        "started": started and started.isoformat(),
        "seconds": seconds(fields.get("TimeLimit", "")),
        "cpus": _whole(tres.get("cpu", "")),
        "memory_mib": mebibytes(tres.get("mem", "")),
        "gpus": _whole(tres.get("gres/gpu", "")),
    }
    return {key: value for key, value in found.items() if value is not None}


def fields_of(job: str) -> dict[str, str]:
    """What `scontrol show job` says of a job, by its keys; empty if slurmctld does not answer."""
    fields: dict[str, str] = {}
    answer = slurm.ask("scontrol", "show", "job", "--oneliner", job, patience=PATIENCE) or ""
    for key, _, value in (part.partition("=") for part in answer.split()):
        fields.setdefault(key, value)
    return fields


def starts_of(jobs: Iterable[str]) -> dict[str, list[Start]] | None:
    """Every start of each job that SLURM knows, oldest first; None if SLURM cannot be asked.

    Accounting knows all starts. Without accounting, slurmctld remembers a job's last start until MinJobAge after its
    end.
    """
    jobs = sorted(set(jobs))
    if not jobs:
        return {}
    # without ids, since squeue fails for one that it has forgotten
    options = ("--me", "--all", "--noheader", "--states=all", f"--format={SQUEUE}")  # --all: partitions can be hidden
    queue = slurm.ask("squeue", *options, patience=PATIENCE)
    accounts = "".join(ask_sacct(jobs[first : first + AT_ONCE]) for first in range(0, len(jobs), AT_ONCE))
    if queue is None and not accounts:
        return None
    return merged(from_sacct(accounts), from_squeue(queue or ""), jobs)


def ask_sacct(jobs: list[str]) -> str:
    """The rows of sacct for at most AT_ONCE jobs, for `from_sacct`; empty if it does not answer, or for no jobs."""
    command = ("sacct", "--noheader", "--parsable2", "--duplicates", f"--format={SACCT}", f"--jobs={','.join(jobs)}")
    return (slurm.ask(*command, patience=PATIENCE) or "") if jobs else ""


def from_sacct(text: str) -> dict[str, list[Start]]:
    """Starts by job id, from sacct's rows: a row for the start, then rows for its steps with their peak memory."""
    found: dict[str, list[Start]] = {}
    for line in text.splitlines():
        row = line.split("|")
        if len(row) != len(SACCT.split(",")):
            continue
        job, _, step = row[0].partition(".")
        state = row[1].split(" ")[0]  # `CANCELLED by 1000`
        if not step:
            found.setdefault(job, []).append(Start(state, *map(moment, row[2:5])))
        elif job in found:
            start = found[job][-1]
            peaks = [peak for peak in (start.peak_memory_mib, mebibytes(row[5])) if peak]
            # the batch script of a step that ran out of memory merely fails
            oom = state == "OUT_OF_MEMORY" and start.state == "FAILED"
            found[job][-1] = replace(
                start, peak_memory_mib=max(peaks, default=None), state=state if oom else start.state
            )
    return found


def from_squeue(text: str) -> dict[str, Start]:
    """The last start of each job, from squeue's rows."""
    found = {}
    for line in text.splitlines():
        row = line.strip().split("|")
        if len(row) == len(SQUEUE.split("|")):
            start = Start(row[1], *map(moment, row[2:5]))
            found[row[0]] = replace(start, ended=None) if start.state in slurm.ALIVE else start  # else the expected end
    return found


def merged(accounts: dict[str, list[Start]], queue: dict[str, Start], jobs: Iterable[str]) -> dict[str, list[Start]]:
    """The starts of these jobs: accounting's, and slurmctld's word on the last start where that is newer."""
    found = {}
    for job in jobs:
        starts, last = list(accounts.get(job, [])), queue.get(job)
        if last and (not starts or starts[-1].started != last.started):
            starts.append(last)
        elif last and not starts[-1].over:
            starts[-1] = replace(last, peak_memory_mib=starts[-1].peak_memory_mib)
        if starts:
            found[job] = starts
    return found


def moment(text: str) -> datetime | None:
    """A time as SLURM writes it, local and without a zone, in UTC; None for `Unknown`, `N/A` and the like."""
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except ValueError:
        return None


def seconds(text: str) -> int | None:
    """A duration as SLURM writes and takes it; None for `UNLIMITED`, and for anything else.

    It is `[hours:]minutes:seconds`, or with days `days-hours[:minutes[:seconds]]`.
    """
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    fits = (1 if dash else 2) <= len(parts) <= 3
    if not fits or not all(part.isdigit() for part in [*parts, *([days] if dash else [])]):
        return None
    hours, minutes, whole = [*parts, "0", "0"][:3] if dash else ["0", *parts][-3:]
    return ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(whole)


def mebibytes(text: str) -> float | None:
    """An amount of memory as SLURM writes it, `4544K` or `3G`, in MiB; None where there is none."""
    try:
        return float(text[:-1]) * UNITS[text[-1:]]
    except (KeyError, ValueError):
        return None


def _whole(text: str) -> int | None:
    return int(text) if text.isdigit() else None
