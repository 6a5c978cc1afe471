"""Fine-tune and evaluate extractive question answering models: download to scores, one rule a stage."""

from snakemake.utils import min_version

min_version("9.16")

# Only where none was given: --configfile replaces the default instead of being merged into it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/prepare_questions.smk"
include: "workflow/rules/hold_out_calibration.smk"
include: "workflow/rules/tokenize_and_label.smk"
include: "workflow/rules/soft_targets.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/calibrate.smk"
include: "workflow/rules/postprocess.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/summarize.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/analyze_errors.smk"
include: "workflow/rules/package.smk"
include: "workflow/rules/resource_usage.smk"
include: "workflow/rules/report.smk"


if workflow.is_main_process:
    failure_handler = failures.listen(logger)
    checked(timestamps.check, timestamps.stamped(OWN_FILES, [*every_model(), *every_answer()]))
    logger.info(
        sweeps.trainings_message(CONFIG.sweeps, lineage.trainings(CONFIG), sum(map(os.path.exists, every_model())))
    )


localrules:
    all,
    models,
    predictions,
    scores,


rule all:
    default_target: True
    input:
        rules.report.output,


rule models:
    input:
        every_model(),


rule predictions:
    input:
        every_answer(),


rule scores:
    input:
        rules.resource_usage.output,


onstart:
    from hooks import leftover_jobs, preflight, slurm_outage

    checked(preflight.before_jobs, workflow)
    leftover_jobs.before_jobs(workflow)
    slurm_outage.before_jobs(workflow)


onsuccess:
    from hooks import leftover_jobs
    from qa.evaluation import compare, summarize

    leftover_jobs.after_jobs(workflow)
    compared = compare.closing_message("results/comparison.csv")
    print(
        summarize.closing_message("results/summary.csv", compared)
        + resource_usage.closing_message("results/resource_usage.csv")
    )


onerror:
    from hooks import leftover_jobs

    leftover_jobs.after_jobs(workflow)
    print(failure_handler.summary(workflow.scheduler.failed))
