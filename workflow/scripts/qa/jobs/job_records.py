"""Records of jobs: what each attempt requested and used. The attempt itself writes its record.

`logs/jobs/{the log's path}/{start}-{job or process}.json` is written when the stage starts and again when it ends. A
record that says `running` after its process has gone is of a job that was killed; SLURM knows how. Beside it, with the
ending `.progress`, is how far the stage is while it runs (see `qa.common.progress`).
"""

import json
import logging
import os
import platform
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qa.common import progress
from qa.common.errors import Interrupted
from qa.common.files import digest_of_json, write_json
from qa.jobs import slurm, slurm_accounting
from qa.jobs.slurm_accounting import Start

LOGS = Path("logs")
FOLDER = LOGS / "jobs"
NO_REASON = ("FAILED", "COMPLETED", "REQUEUED")
FINGERPRINT_INPUTS = ("settings", "seed", "reads", "code")
OURS = ("rule_", "group_")  # how Snakemake's executor begins a job's comment in SLURM
SLACK = 5.0  # seconds by which the clocks of two nodes may differ

log = logging.getLogger(__name__)


@dataclass
class JobRecord:
    """One attempt at a job. Times are ISO, in UTC; `asked` has `cpus`, `memory_mib`, `seconds`, `gpus` where known."""

    rule: str
    wildcards: dict[str, str]
    log: str
    started: str
    state: str = "running"  # then completed, failed, interrupted (it can go on) or stopped (by Ctrl-C)
    ended: str | None = None
    node: str = ""
    process: str = ""
    fingerprint_inputs: str = ""  # digest of the params that determine the result
    asked: dict[str, Any] = field(default_factory=dict)
    slurm: dict[str, str] = field(default_factory=dict)  # job, submitted, started
    cpu_seconds: float | None = None
    peak_memory_mib: float | None = None
    peak_gpu_memory_mib: float | None = None

    @property
    def job(self) -> str | None:
        """The SLURM job; None without."""
        return self.slurm.get("job")

    @property
    def began(self) -> datetime:
        """When the stage started."""
        return datetime.fromisoformat(self.started)


@contextmanager
def recorded(rule: str, log_file: str | Path, job: dict[str, Any]) -> Iterator[None]:
    """Keep a record of the work within the block. A record that cannot be written is a warning, not a failure.

    `job` has `wildcards`, `threads`, and the resources of Snakemake that are requests: `mem_mb`, `runtime` (minutes),
    `gpu`. Nothing else of it is kept, since other resources may hold an account or an address.
    """
    record = _tolerant(_begun, rule, log_file, job)
    if record:
        os.environ[progress.FILE] = str(progress_file(record).absolute())
    state = "failed"
    try:
        yield
        state = "completed"
    except Interrupted:
        state = "interrupted"
        raise
    except KeyboardInterrupt:
        state = "stopped"
        raise
    finally:
        if record:
            os.environ.pop(progress.FILE, None)
            _tolerant(_ended, record, state)
        if state == "interrupted":
            _tolerant(requeue_this_job)


def _tolerant(function: Any, *arguments: Any) -> Any:
    """Call a function. Whatever goes wrong in it (a full disk, an odd node) must not cost the stage its result."""
    try:
        return function(*arguments)
    except Exception as error:
        log.warning(f"no record of this job's time and memory: {type(error).__name__}: {error}")
        return None


def requeue_this_job() -> bool:
    """Send the SLURM job of this process back into its queue; False where that is not right, or SLURM refuses it.

    It is right for a running job of Snakemake's executor: the job keeps its number, and Snakemake waits for it. A job
    that scancel or a preemption is ending is no longer running. From here on SIGTERM, by which SLURM ends the job, does
    not disturb the last lines of the log.
    """
    job = slurm.job_id()
    fields = slurm_accounting.fields_of(job) if job else {}
    ours = fields.get("Comment", "").startswith(OURS)
    if not ours or fields.get("JobState") != "RUNNING" or fields.get("Requeue") != "1":
        return False
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if slurm.ask("scontrol", "requeue", job, patience=slurm_accounting.PATIENCE) is None:
        signal.signal(signal.SIGTERM, before)
        return False
    log.info(f"SLURM job {job} goes back into the queue; it goes on from there when SLURM starts it again")
    return True


def _begun(rule: str, log_file: str | Path, job: dict[str, Any]) -> JobRecord:
    cluster = slurm_accounting.this_job()
    asked = {
        "cpus": job.get("threads"),
        "memory_mib": job.get("mem_mb"),
        "seconds": job["runtime"] * 60 if job.get("runtime") else None,
        "gpus": job.get("gpus") or job.get("gpu"),
    }
    asked = {key: cluster.pop(key, value) for key, value in asked.items()}  # SLURM's word first
    record = JobRecord(
        rule=rule,
        wildcards={key: str(value) for key, value in job["wildcards"].items()},
        log=str(log_file),
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
        node=platform.node(),
        process=_process(os.getpid()),
        fingerprint_inputs=fingerprint_inputs_of(job.get("params", {})),
        asked={key: value for key, value in asked.items() if isinstance(value, int | float)},
        slurm=cluster,
    )
    write_json(path_of(record), asdict(record))
    return record


def _ended(record: JobRecord, state: str) -> None:
    times = os.times()
    record.state, record.ended = state, datetime.now(UTC).isoformat(timespec="milliseconds")
    record.cpu_seconds = round(times.user + times.system + times.children_user + times.children_system, 2)
    record.peak_memory_mib, record.peak_gpu_memory_mib = _peak_memory(), _peak_gpu_memory()
    progress_file(record).unlink(missing_ok=True)
    write_json(path_of(record), asdict(record))


def fingerprint_inputs_of(params: Mapping[str, Any]) -> str:
    """Digest of the params of a job that, with its input files, determine its result."""
    return digest_of_json({name: params[name] for name in FINGERPRINT_INPUTS if name in params})


def folder_of(log_file: str | Path) -> Path:
    """Folder of the records of all attempts at the job that has this log: in `logs/jobs`, below a module's prefix."""
    return Path(*_prefix_of(log_file), FOLDER, within_logs(log_file)).with_suffix("")


def within_logs(log_file: str | Path) -> Path:
    """A log's path below its `logs`."""
    path = Path(log_file)
    return path.relative_to(Path(*_prefix_of(path), LOGS))


def _prefix_of(log_file: str | Path) -> tuple[str, ...]:
    """The folders before `logs`: the `prefix:` of a Snakemake module, none without."""
    parts = Path(log_file).parts
    return parts[: parts.index(LOGS.name)] if LOGS.name in parts else ()


def path_of(record: JobRecord) -> Path:
    """File of a record, whose names sort by time."""
    return folder_of(record.log) / f"{record.began:%Y%m%dT%H%M%S.%f}-{record.job or record.process.split(':')[0]}.json"


def progress_file(record: JobRecord) -> Path:
    """File beside a record for the progress of its attempt."""
    return path_of(record).with_suffix(".progress")


def read(folder: Path = FOLDER) -> list[JobRecord]:
    """All records under a folder, oldest first. A file that is no record is skipped with a warning."""
    known = {part.name for part in fields(JobRecord)}
    records = []
    for path in folder.rglob("*.json"):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            record = JobRecord(**{key: value[key] for key in known & value.keys()})
            _check(record)
            records.append((record.began, record))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            log.warning(f"{path}: no record of a job ({error})")
    return [record for _, record in sorted(records, key=lambda pair: pair[0])]


def _check(record: JobRecord) -> None:
    """Raise ValueError for a record whose values no job would write."""
    texts = (record.rule, record.log, record.state, record.node, record.process, *record.wildcards.values())
    times = [datetime.fromisoformat(time) for time in (record.started, record.ended) if time is not None]
    if not all(isinstance(text, str) for text in (*texts, record.job or "")):
        raise ValueError("a name that is not a text")
    if any(time.tzinfo is None for time in times):
        raise ValueError("a time without its zone")
    int(record.process.partition(":")[0])
    if not isinstance(record.asked, dict) or LOGS.name not in Path(record.log).parts or ".." in record.log:
        raise ValueError(f"a log that is not in {LOGS}")


def settled(record: JobRecord, starts: dict[str, list[Start]] | None) -> tuple[str, datetime | None]:
    """State and end of an attempt, by its record and what SLURM knows of its job (slurm_accounting.starts_of).

    An attempt without an end in its record has SLURM's state, in capitals; `killed` if nothing says how it ended,
    `requeued` if SLURM only knows a later start, `unknown` if SLURM cannot be asked. An attempt that failed has SLURM's
    state if that says why, such as OUT_OF_MEMORY.
    """
    start = start_of(record, starts)
    if record.state != "running":
        explained = record.state == "failed" and start and start.over and start.state not in NO_REASON
        ended = datetime.fromisoformat(record.ended) if record.ended else None
        return start.state if explained else record.state, ended
    gone = record.node == platform.node() and _process(int(record.process.split(":")[0])) != record.process
    at_work = "killed" if gone else "running"
    if record.job is None:
        return at_work, None
    if starts is None:
        return "killed" if gone else "unknown", None
    if start is None:
        return "requeued" if starts.get(record.job) else "killed", None
    if start.over:
        return "completed" if start.state == "COMPLETED" else start.state, start.ended
    return at_work, None


def start_of(record: JobRecord, starts: dict[str, list[Start]] | None) -> Start | None:
    """The start of its SLURM job in which an attempt ran: the last one before it."""
    own = (starts or {}).get(record.job or "", [])
    before = [start for start in own if start.started and (start.started - record.began).total_seconds() <= SLACK]
    return before[-1] if before else None


def _process(pid: int) -> str:
    """A process on this node: its number and, as numbers are used again, its start in clock ticks; empty if gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return f"{pid}:{stat.rpartition(')')[2].split()[19]}"
    except OSError:
        return ""


def _peak_memory() -> float:
    """Peak resident memory in MiB of this process, or of its largest child where that is more.

    Its own from /proc: getrusage also counts the process that this one was forked from.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    try:
        own = float(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    except IndexError:  # not every sandbox has it
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return round(max(own, children), 1)


def _peak_gpu_memory() -> float | None:
    """Peak memory in MiB that torch held on a GPU, its cache included; None where this process used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return round(max(map(torch.cuda.max_memory_reserved, range(torch.cuda.device_count()))) / 2**20, 1)
