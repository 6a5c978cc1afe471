"""Jobs that outlived the Snakemake that had submitted them: wait for them and record their results.

Such a job writes its result, but Snakemake does not record its params, so a later change of the configuration would go
unnoticed. The record that the job itself wrote has their digest.
"""

import platform
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from qa.common.errors import InputError
from qa.jobs import job_records, slurm
from qa.training.checkpoints import forget_results, latest_of, step_of

RULES = ("tokenize_and_label", "train", "predict")
PAUSE = 30.0  # seconds between two questions to SLURM
LOOK = 1.0  # seconds between two looks at the processes of this node


def before_jobs(workflow):
    """Wait for jobs of an earlier call whose results this call needs, and record results without Snakemake's metadata.

    Say at which step each unfinished training goes on.

    For `onstart`: before anything is queued, not in dry runs and not in jobs.
    """
    if not workflow.is_main_process or workflow.touch:
        return
    jobs = {str(job.log[0]): job for job in workflow.dag.jobs if job.log}
    needed = {log for log, job in jobs.items() if workflow.dag.needrun(job)}
    _wait(needed)
    for log, job in jobs.items():
        if job.rule.name in RULES and log not in needed and not workflow.persistence.has_metadata(job):
            _record_result(workflow, job)
        elif job.rule.name == "train" and log in needed:
            _announce_resume(job)
    if text := unrecorded(workflow, RULES):
        _print(text)


def unrecorded(workflow, told=()):
    """A warning of the rules whose finished results Snakemake has no record of, but those of `told`; "" without any."""
    lost = (job for job in workflow.dag.jobs if job.output and not workflow.dag.needrun(job))
    rules = {job.rule.name for job in lost if not workflow.persistence.has_metadata(job)} - {*told}
    if not rules:
        return ""
    return (
        f"Snakemake has no record of the settings of {', '.join(sorted(rules))}, since .snakemake was removed, or not "
        "copied with the results. So changes of the configuration go unnoticed there; to make them anew: -R RULE"
    )


def after_jobs(workflow):
    """Delete the kept results of trainings that Snakemake has recorded, and mark failed jobs as incomplete.

    For `onsuccess` and `onerror`. Other kept results stay: one may be all that is left of a training. Snakemake has
    recorded a failed job as ended, so files that appear later, on a slow file system, would count as finished.
    """
    if not workflow.is_main_process:
        return
    for job in workflow.dag.jobs:
        if job.rule.name == "train" and _is_recorded(workflow, job):
            forget_results(job.params.checkpoints)
    for failed in workflow.scheduler.failed:
        for job in failed.jobs if failed.is_group() else [failed]:
            workflow.persistence.started(job)


def _is_recorded(workflow, job) -> bool:
    """Whether Snakemake has recorded a job as finished, in this run or before, and its files exist."""
    if workflow.dag.needrun(job) and not workflow.dag.finished(job):
        return False
    complete = all(Path(file).exists() for file in job.output)
    return complete and not workflow.async_run(workflow.persistence.incomplete(job))


def _wait(logs: set[str]) -> None:
    """Wait until no job of an earlier call works on any of these logs: two jobs would write the same files."""
    states = ("running", "interrupted")  # an interrupted job may have gone back into the queue
    running = [record for record in job_records.read() if record.log in logs and record.state in states]
    announced = False
    while running := [record for record in running if _at_work(record)]:
        if not announced:
            names = ", ".join(f"{_name(record)} ({_where(record)})" for record in running)
            _print(f"Jobs of an earlier call are still at work; waiting for their results: {names}")
            announced = True
        time.sleep(PAUSE if any(map(_job_of, running)) else LOOK)


def _at_work(record: job_records.JobRecord) -> bool:
    """Whether the job of a record is at work: by SLURM, or by the process here with its number and command."""
    if job := _job_of(record):
        return slurm.state_of(job) in slurm.ALIVE
    if record.node != platform.node() or job_records.settled(record, None)[0] == "killed":
        return False
    try:  # the command too, since not every system gives the start of a process
        return f".{record.rule}.py" in " ".join(psutil.Process(int(record.process.partition(":")[0])).cmdline())
    except psutil.Error:
        return False


def _job_of(record: job_records.JobRecord) -> str | None:
    """The SLURM job that ran for this record alone; None for a process of Snakemake's own machine or allocation."""
    return None if record.job == slurm.job_id() else record.job


def _where(record: job_records.JobRecord) -> str:
    return f"SLURM job {record.job}" if _job_of(record) else f"process {record.process.partition(':')[0]}"


def _announce_resume(job) -> None:
    """Print the step at which a training will go on, if its last job had today's settings and code."""
    records = job_records.read(job_records.folder_of(job.log[0]))
    if records and records[-1].fingerprint_inputs == job_records.fingerprint_inputs_of({**job.params}):
        with suppress(InputError):  # no checkpoint
            latest = latest_of(*Path(job.params.checkpoints).parts[-2:], Path(job.params.checkpoints).parents[1])
            _print(f"{_name(records[-1])} continues at step {step_of(Path(latest)):,}, from {latest}")


def _record_result(workflow, job) -> None:
    """Record in Snakemake's metadata a result that appeared after Snakemake had gone, if its settings are today's."""
    records = [r for r in job_records.read(job_records.folder_of(job.log[0])) if r.state == "completed"]
    name = " ".join([job.rule.name, *job.wildcards])
    if records and records[-1].fingerprint_inputs == job_records.fingerprint_inputs_of({**job.params}):
        workflow.async_run(workflow.persistence.finished(job))
        source = f"SLURM job {records[-1].job}" if records[-1].job else f"process {records[-1].process}"
        _print(f"{name}: {source} ended after its Snakemake was killed; its result is used")
    else:
        _print(f"{name}: its settings are not recorded, so changes go unnoticed; to make it again: -R {job.rule.name}")


def _name(record: job_records.JobRecord) -> str:
    return " ".join([record.rule, *record.wildcards.values()])


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
