"""Jobs that outlived the Snakemake that had submitted them: waited for, taken note of, and then forgotten.

Such a job writes its result all the same, but nobody records by which params it was made: a later change of config
would go unnoticed. What the jobs themselves recorded says it.
"""

import platform
import sys
import time
from pathlib import Path

import psutil

from qa.jobs import job_records, slurm
from qa.training.checkpoints import forget_results

RULES = ("tokenize_and_label", "train", "predict")
PAUSE = 30.0  # seconds between two questions to SLURM
LOOK = 1.0  # seconds between two looks at processes of this node


def before_jobs(workflow):
    """Wait for jobs of an earlier call that make what this one is about to, and record results made meanwhile.

    For `onstart`: before anything is queued, not in dry runs and not in jobs.
    """
    if not workflow.is_main_process or workflow.touch:
        return
    mine = {str(job.log[0]): job for job in workflow.dag.jobs if job.log}
    needed = {log for log, job in mine.items() if workflow.dag.needrun(job)}
    _wait(needed)
    for log, job in mine.items():
        if job.rule.name in RULES and log not in needed and not workflow.persistence.has_metadata(job):
            _note(workflow, job)


def after_jobs(workflow):
    """Forget the kept results of trainings that Snakemake has taken note of, and mark what failed as incomplete.

    For `onsuccess` and `onerror`. Any other result stays: it may be all that is left of a training. A failed job's
    files that appear only later, on a slow file system, would otherwise count as finished: Snakemake noted it as ended.
    """
    if not workflow.is_main_process:
        return
    for job in workflow.dag.jobs:
        if job.rule.name == "train" and _taken_note_of(workflow, job):
            forget_results(job.params.checkpoints)
    for failed in workflow.scheduler.failed:
        for job in failed.jobs if failed.is_group() else [failed]:
            workflow.persistence.started(job)


def _taken_note_of(workflow, job) -> bool:
    """Whether Snakemake counts a job of this run as finished, in this run or before, and its files are there."""
    if workflow.dag.needrun(job) and not workflow.dag.finished(job):
        return False
    there = all(Path(file).exists() for file in job.output)
    return there and not workflow.async_run(workflow.persistence.incomplete(job))


def _wait(logs: set[str]) -> None:
    """Wait until no job is at work on any of these logs any more: two would write the same files."""
    running = [record for record in job_records.read() if record.log in logs and record.state == "running"]
    said = False
    while running := [record for record in running if _at_work(record)]:
        if not said:
            names = ", ".join(f"{_name(record)} ({_where(record)})" for record in running)
            _say(f"Jobs of an earlier call are still at work; waiting for their results: {names}")
            said = True
        time.sleep(PAUSE if any(map(_job_of, running)) else LOOK)


def _at_work(record: job_records.JobRecord) -> bool:
    """Whether the job of a record goes on: as SLURM says, or as that very process here, not one of the same number."""
    if job := _job_of(record):
        return slurm.state_of(job) in slurm.ALIVE
    if record.node != platform.node() or job_records.settled(record, None)[0] == "killed":
        return False
    try:  # the command too: not every system tells the start by which settled knows a process
        return f".{record.rule}.py" in " ".join(psutil.Process(int(record.process.partition(":")[0])).cmdline())
    except psutil.Error:
        return False


def _job_of(record: job_records.JobRecord) -> str | None:
    """The SLURM job of its own that a record is of; None for a process beside Snakemake, in an allocation or not."""
    return None if record.job == slurm.job_id() else record.job


def _where(record: job_records.JobRecord) -> str:
    return f"SLURM job {record.job}" if _job_of(record) else f"process {record.process.partition(':')[0]}"


def _note(workflow, job) -> None:
    """Record a result that a job finished after Snakemake had gone, if it was made as it would be made now."""
    made = [record for record in job_records.read(job_records.folder_of(job.log[0])) if record.state == "completed"]
    name = " ".join([job.rule.name, *job.wildcards])
    if made and made[-1].fingerprint_inputs == job_records.fingerprint_inputs_of({**job.params}):
        workflow.async_run(workflow.persistence.finished(job))
        by = f"SLURM job {made[-1].job}" if made[-1].job else f"process {made[-1].process}"
        _say(f"{name}: the result of {by} is taken, which ended after its Snakemake had gone")
    else:
        _say(f"{name}: nobody recorded its settings, so changes go unnoticed; to make it anew: -R {job.rule.name}")


def _name(record: job_records.JobRecord) -> str:
    return " ".join([record.rule, *record.wildcards.values()])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
