"""What Snakemake is about to do, as plain data for the checks of `qa.preflight` before the first job is queued.

QA_PREFLIGHT=only ends the run after the checks, QA_PREFLIGHT=off skips them.
"""

import os
import shlex
import sys
import time
from typing import Any

from snakemake.logging import logger
from snakemake_interface_common.exceptions import WorkflowError

from qa.common.errors import InputError
from qa.config.fields import listed
from qa.preflight.checks import message, preflight
from qa.preflight.findings import PROBLEM, WARNING, Finding, problem, warning
from qa.preflight.plan import Plan, PlannedTraining
from qa.preflight.slurm_requests import JobRequest

DOWNLOADS = ("resources/models/", "resources/datasets/")
OF_ONE_JOB = {"--job-name", "--output", "--comment"}  # options that do not change SLURM's answer
NOT_CHECKED = ("--parsable", "--export=", "--mail-")  # likewise; a mail address does not belong into a log


def before_jobs(workflow):
    """Check what this run needs. For `onstart`, so not in dry runs and jobs. Raises InputError with all problems."""
    mode = os.environ.get("QA_PREFLIGHT", "on")
    if mode == "off" or workflow.touch or not workflow.is_main_process:
        return
    began = time.monotonic()
    plan, findings = plan_of(workflow)
    findings += preflight(plan, thoroughly=mode == "only")
    warnings = [f"Preflight warning: {finding.text}" for finding in findings if finding.kind == WARNING]
    if any(finding.kind == PROBLEM for finding in findings):
        raise InputError("\n".join([message(findings), *warnings]))
    if mode == "only":
        print("\n".join(["Preflight:", *(f"  {f.kind}: {f.text}" for f in findings)]), flush=True)
        print("No problem found; nothing was queued.", flush=True)
        sys.exit(0)
    seconds = f"{time.monotonic() - began:.1f} s"
    print("\n".join([*warnings, f"Preflight: no problem found ({seconds})."]), file=sys.stderr, flush=True)


def plan_of(workflow) -> tuple[Plan, list[Finding]]:
    """The jobs that will run, as data for the checks; and what could not be found out."""
    jobs = list(workflow.dag.needrun_jobs())
    outputs = {str(file) for job in jobs for file in job.output}
    inputs = {str(file) for job in jobs for file in job.input if str(file).startswith(DOWNLOADS)}
    slurm = workflow.executor_plugin.name == "slurm"
    requests, findings = requests_of(workflow, jobs) if slurm else (None, [])

    def of(rule):
        return [job for job in jobs if job.rule.name == rule]

    downloads = {
        str(job.output[0]): (job.wildcards.kind.removesuffix("s"), job.params.source) for job in of("download")
    }
    status = getattr(workflow.executor_settings, "status_command", None) if slurm else None
    plan = Plan(
        downloads=downloads,
        present=tuple(sorted(inputs - outputs)),
        trainings=tuple(map(_training, of("train"))),
        tokenized=tuple(f"resources/datasets/{job.wildcards.dataset}" for job in of("tokenize_and_label")),
        at_once=1 if workflow.local_exec else workflow.nodes or 1,
        requests=requests,
        commands=tuple({status} & {"sacct"}),
        packages=not workflow.deployment_settings.deployment_method,
        rows=tuple(
            sorted({(str(job.input.model), job.params.settings["max_length"]) for job in of("tokenize_and_label")})
        ),
        overrides={_pretrained(job): _overrides(job) for job in jobs if _overrides(job)},
        questions=tuple(
            (tuple(listed(job.params.files)), job.params.misaligned)
            for job in of("prepare_questions")
            if "repo" not in downloads.get(str(job.input[0]), ("", {"repo"}))[1]
        ),
        answers=tuple(str(job.input.given[0]) for job in of("postprocess") if job.input.given),
    )
    return plan, findings


def _overrides(job) -> dict[str, Any]:
    """New values for keys of the model's own configuration, of jobs that load a pretrained model."""
    return job.params.settings.get("overrides", {}) if job.rule.name in ("train", "predict") else {}


def _pretrained(job) -> str:
    """Folder of the pretrained model: the model itself may be trained in this very run."""
    return str(job.input.get("pretrained", job.input.model))


def _training(job) -> PlannedTraining:
    options = job.params.runtime_options
    return PlannedTraining(
        model=_pretrained(job),
        checkpoints=str(job.params.checkpoints),
        keep=options["keep"],
        keep_after_success=options["keep_after_success"],
        report_to=tuple(options["report_to"]),
        lora="lora_rank" in job.params.settings,
    )


def requests_of(workflow, jobs) -> tuple[tuple[JobRequest, ...] | None, list[Finding]]:
    """What the executor would request of SLURM, each distinct request once, by the executor's own functions."""
    rules: dict[tuple[str, ...], list[str]] = {}
    refused: dict[str, None] = {}
    try:
        for job in jobs:
            if job.is_local:
                continue
            try:
                _check_by_executor(job)
                rules.setdefault(tuple(_options(workflow, job)), []).append(job.rule.name)
            except WorkflowError as error:
                refused[f"SLURM, jobs of {job.rule.name}: {error}"] = None
    except Exception as error:  # the executor's inner functions may change
        return (), [warning(f"SLURM: not asked, the requests are not known ({type(error).__name__}: {error})")]
    requests = tuple(JobRequest(tuple(sorted(set(names))), options, len(names)) for options, names in rules.items())
    return requests, list(map(problem, refused))


def _check_by_executor(job) -> None:
    """Raise WorkflowError for what the executor refuses when it submits a job: options, an account, too many GPUs."""
    from snakemake_executor_plugin_slurm.accounts import validate_account
    from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

    validate_slurm_extra(job)
    if account := job.resources.get("slurm_account"):
        try:
            validate_account(str(account), logger)
        except WorkflowError as error:
            raise WorkflowError(f"{error}: remove slurm_account, and export SBATCH_ACCOUNT={account}") from None
    if job.rule.name == "train":
        asked, options = job.resources.get("gpu"), job.params.runtime_options
        if asked != (gpus := options["gpus"] * options["nodes"]):
            raise WorkflowError(
                f"`gpu: {asked}` is requested, but the training uses {gpus}: set training.gpus of the run"
            )


def _options(workflow, job) -> list[str]:
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    # a value is TBD if it depends on a file that does not exist yet
    known = {name: value for name, value in job.resources.items() if str(value) != "<TBD>"}
    asked = _JobWith(job, type(job.resources)(fromdict=known))
    account, partition = known.get("slurm_account"), known.get("slurm_partition")
    parameters = {
        "run_uuid": "preflight",
        "slurm_logfile": "/dev/null",
        "comment_str": "preflight",
        "account": f" -A {shlex.quote(str(account))}" if account else "",
        "partition": f" -p {shlex.quote(str(partition))}" if partition else "",
        "workdir": "",
    }
    words = shlex.split(get_submit_command(asked, parameters) + set_gres_string(asked))
    options, skip = [], False
    for word in words[1:]:
        if not skip and word not in OF_ONE_JOB and not word.startswith(NOT_CHECKED):
            options.append(word)
        skip = word in OF_ONE_JOB
    return options


class _JobWith:
    """A job with other resources and everything else its own."""

    def __init__(self, job, resources):
        self._job, self.resources = job, resources

    def __getattr__(self, name):
        return getattr(self._job, name)
