"""Questions to SLURM, by its own commands: each bounded in time, and None where it cannot be asked."""

import logging
import os
import subprocess
from datetime import datetime

PATIENCE = 20.0  # seconds that one question may take; a busy slurmctld answers late
ALIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "SUSPENDED"}

log = logging.getLogger(__name__)


def ask(*command: str, patience: float = PATIENCE) -> str | None:
    """Standard output of a SLURM command; None where it is missing, fails, or takes more than `patience` seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.debug(f"{' '.join(command)}: {error}")
        return None
    return done.stdout


def job_id() -> str | None:
    """The SLURM job that this process runs in, None outside of one."""
    return os.environ.get("SLURM_JOB_ID")


def state_of(job: str) -> str | None:
    """State of a job that slurmctld knows, such as `RUNNING`; `GONE` for one it has forgotten; None when not asked.

    `squeue` fails for a job that it has forgotten, and also when slurmctld is away: `scontrol ping` tells them apart.
    """
    told = ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
    if told is None:
        return "GONE" if "UP" in (ask("scontrol", "ping") or "") else None
    return told.split()[0] if told.split() else "GONE"


def address_of(node: str) -> str:
    """Where the other nodes of the cluster reach a node: as SLURM does, else by its name."""
    told = ask("scontrol", "--oneliner", "show", "node", node) or ""
    return next((word.partition("=")[2] for word in told.split() if word.startswith("NodeAddr=")), node)


def end_of(job: str) -> float | None:
    """When a running job's walltime ends, in seconds since the epoch; None where it has no end or cannot be asked."""
    told = (ask("squeue", "--noheader", f"--jobs={job}", "--format=%e") or "").strip()
    try:
        return datetime.fromisoformat(told).timestamp()
    except ValueError:
        return None
