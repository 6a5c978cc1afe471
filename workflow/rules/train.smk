"""Needs: a pretrained or trained model, and labelled windows. Makes: the fine-tuned model, its history and manifest.

Runs on a GPU.

Checkpoints are no declared output, since Snakemake deletes those before each attempt. The latest one of an unfinished
training can be evaluated as the variant `seed-{n}-latest`.
"""

from qa.plan import card_facts
from qa.training.checkpoints import latest_of

TRAINING_CODE = code("train")


rule train:
    input:
        needs(rule_inputs.training, "{run}", "{variant}"),
    output:
        model=directory("results/{run}/{variant}/model"),
        history=report(
            "results/{run}/{variant}/training.csv",
            caption="../report/training.rst",
            category="Training",
            subcategory="{run}",
            labels={"run": "{run}", "variant": "{variant}", "file": "history"},
        ),
        manifest=report(
            "results/{run}/{variant}/manifest.json",
            caption="../report/manifest.rst",
            category="Training",
            subcategory="{run}",
            labels={"run": "{run}", "variant": "{variant}", "file": "manifest"},
        ),
    log:
        "logs/train/{run}/{variant}.log",
    benchmark:
        "results/usage/train/{run}/{variant}.tsv"
    wildcard_constraints:
        variant=r"seed-\d+",
    conda:
        "../../envs/qa.yaml"
    threads: lambda wildcards: 4 * run_of(wildcards).training.gpus
    resources:
        gpu=lambda wildcards: run_of(wildcards).training.gpus * run_of(wildcards).training.nodes,
        nodes=lambda wildcards: run_of(wildcards).training.nodes,
    params:
        settings=lambda wildcards: stages.training(run_of(wildcards), CONFIG),
        seed=lambda wildcards: int(wildcards.variant.removeprefix("seed-")),
        # Snakemake compares inputs without their names and order: whether a split trains or validates
        reads=lambda wildcards: checked(rule_inputs.training, CONFIG, wildcards.run, wildcards.variant),
        code=lambda wildcards: TRAINING_CODE(wildcards) + rule_inputs.measuring(run_of(wildcards)),
        checkpoints=located("checkpoints/{run}/{variant}"),
        runtime_options=untracked(lambda wildcards: stages.runtime_options(run_of(wildcards))),
        run_settings=untracked(lambda wildcards: run_of(wildcards).model_dump()),
        shared=untracked(lambda wildcards: card_facts.shared(CONFIG, wildcards.run, wildcards.variant)),
    message:
        "Fine-tuning {wildcards.run}, {wildcards.variant}"
    script:
        "../scripts/train.py"


rule latest_checkpoint:
    input:
        model=lambda wildcards: f"resources/models/{run_of(wildcards).pretrained}",
    output:
        model=directory("results/{run}/{variant}/model"),
    log:
        "logs/latest_checkpoint/{run}/{variant}.log",
    benchmark:
        "results/usage/latest_checkpoint/{run}/{variant}.tsv"
    wildcard_constraints:
        variant=r"seed-\d+-latest",
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        checkpoint=lambda wildcards: checked(latest_of, wildcards.run, wildcards.variant, located("checkpoints")),
        code=code("latest_checkpoint"),
    message:
        "Taking the model out of {params.checkpoint}"
    script:
        "../scripts/latest_checkpoint.py"
