"""A training that has stopped itself goes on in the same SLURM job: the job goes back into the queue."""

import logging
import signal

from qa.jobs import slurm, slurm_accounting

OURS = ("rule_", "group_")  # how Snakemake's executor begins a job's comment

log = logging.getLogger(__name__)


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
