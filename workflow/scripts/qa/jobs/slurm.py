"""Questions to SLURM by its own commands. Each has a time limit; the answer is None if SLURM cannot be asked."""

import logging
import os
import subprocess
from collections.abc import Mapping
from datetime import datetime

PATIENCE = 20.0  # seconds for one question; a busy slurmctld answers late
OWN_VIEW = ("SQUEUE_", "SACCT_", "SINFO_")  # a user's variables, which hide jobs or partitions as options do
TIMES = {"SLURM_TIME_FORMAT": "standard"}  # a user or site may have `relative`, such as `19 Jan`
ALIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "SUSPENDED"}

log = logging.getLogger(__name__)


def ask(*command: str, patience: float = PATIENCE) -> str | None:
    """Standard output of a command; None where it is missing, fails, or takes more than `patience` seconds."""
    options = {"capture_output": True, "text": True, "env": environment(os.environ)}
    try:
        done = subprocess.run(command, timeout=patience, check=True, **options)
    except (OSError, subprocess.SubprocessError) as error:
        log.debug(f"{' '.join(command)}: {error}")
        return None
    return done.stdout


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """These variables without what changes the answers of SLURM's commands."""
    return {name: value for name, value in variables.items() if not name.startswith(OWN_VIEW)} | TIMES


def job_id() -> str | None:
    """The SLURM job that this process runs in, None outside of one."""
    return os.environ.get("SLURM_JOB_ID")


def state_of(job: str) -> str | None:
    """State of a job, such as `RUNNING`; `GONE` if slurmctld has forgotten it; None if slurmctld does not answer.

    `squeue` fails for a forgotten job, and also while slurmctld is away: `scontrol ping` distinguishes the two.
    """
    # --all: partitions can be hidden
    answer = ask("squeue", "--all", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
    if answer is None:
        return "GONE" if "UP" in (ask("scontrol", "ping") or "") else None
    return answer.split()[0] if answer.split() else "GONE"


def address_of(node: str) -> str:
    """The address at which other nodes reach a node: the one that SLURM uses, else its name."""
    answer = ask("scontrol", "--oneliner", "show", "node", node) or ""
    return next((word.partition("=")[2] for word in answer.split() if word.startswith("NodeAddr=")), node)


def end_of(job: str) -> float | None:
    """End of a running job's walltime in seconds since the epoch; None if it has none or SLURM cannot be asked."""
    answer = (ask("squeue", "--all", "--noheader", f"--jobs={job}", "--format=%e") or "").strip()
    try:
        return datetime.fromisoformat(answer).timestamp()
    except ValueError:
        return None
