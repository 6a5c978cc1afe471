"""Fine-tune and evaluate extractive question answering models: download to scores, one rule a stage."""

from snakemake.utils import min_version

min_version("9.16")

# Only where none was given: --configfile replaces the default instead of being merged into it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/records.smk"
include: "workflow/rules/tokenize_and_label.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/postprocess.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/resources.smk"


localrules:
    all,
    models,
    predictions,
    scores,


rule all:
    default_target: True
    input:
        every_answer(),
        "results/summary.csv",
        "results/resources.csv",


rule models:
    input:
        every_model(),


rule predictions:
    input:
        every_answer(),


rule scores:
    input:
        every_metrics(),
        "results/summary.csv",
        "results/resources.csv",


onstart:
    import executor, orphans, preflight

    checked(preflight.before_jobs, workflow)
    orphans.before_jobs(workflow)
    executor.before_jobs(workflow)


onsuccess:
    forget_results("checkpoints")
    print(tables.closing_message("results/summary.csv") + usage.closing_message("results/resources.csv"))


onerror:
    forget_results("checkpoints")
    print(failures.report(log))
