"""Jobs that outlived the Snakemake that had submitted them: waited for, and taken note of.

Such a job writes its result all the same, but nobody records by which params it was made: a later change of config
would go unnoticed. What the jobs themselves recorded says it.
"""

import sys
import time

from qa import jobs, slurm

RULES = ("tokenize_and_label", "train", "predict")
PAUSE = 30.0  # seconds between two questions to SLURM


def before_jobs(workflow):
    """Wait for jobs of an earlier call that make what this one is about to, and record results made meanwhile.

    For `onstart`: before anything is queued, not in dry runs and not in jobs.
    """
    if not workflow.is_main_process or workflow.touch:
        return
    mine = {str(job.log[0]): job for job in workflow.dag.jobs if job.rule.name in RULES}
    needed = {log for log, job in mine.items() if workflow.dag.needrun(job)}
    _wait(needed)
    for log, job in mine.items():
        if log not in needed and not workflow.persistence.has_metadata(job):
            _note(workflow, job)


def _wait(logs: set[str]) -> None:
    """Wait until no job is at work on any of these logs any more."""
    running = [record for record in jobs.read() if record.log in logs and record.state == "running" and record.job]
    said = False
    while running := [record for record in running if slurm.state_of(record.job) in slurm.ALIVE]:
        if not said:
            names = ", ".join(f"{_name(record)} ({record.job})" for record in running)
            _say(f"SLURM jobs of an earlier call are still at work; waiting for their results: {names}")
            said = True
        time.sleep(PAUSE)


def _note(workflow, job) -> None:
    """Record a result that a job finished after Snakemake had gone, if it was made as it would be made now."""
    made = [record for record in jobs.read(jobs.folder_of(job.log[0])) if record.state == "completed"]
    name = " ".join([job.rule.name, *job.wildcards])
    if made and made[-1].determinants == jobs.determinants_of({**job.params}):
        workflow.async_run(workflow.persistence.finished(job))
        by = f"SLURM job {made[-1].job}" if made[-1].job else f"process {made[-1].process}"
        _say(f"{name}: the result of {by} is taken, which ended after its Snakemake had gone")
    else:
        _say(f"{name}: nobody recorded its settings, so changes go unnoticed; to make it anew: -R {job.rule.name}")


def _name(record: jobs.Record) -> str:
    return " ".join([record.rule, *record.wildcards.values()])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
