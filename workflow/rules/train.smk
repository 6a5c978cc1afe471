"""Needs: a pretrained model and labelled windows. Makes: the fine-tuned model, its history and manifest. Runs on a GPU.

Checkpoints are no declared output, since Snakemake deletes those before each attempt. The latest one of an unfinished
training can be evaluated as the member `seed-{n}-latest`.
"""

from qa import sharing
from qa.checkpoints import latest_of


rule train:
    input:
        unpack(lambda wildcards: checked(needs.training, CONFIG, wildcards.run)),
    output:
        model=directory("results/{run}/{member}/model"),
        history=report(
            "results/{run}/{member}/training.csv",
            caption="../report/training.rst",
            category="Training",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "file": "history"},
        ),
        manifest=report(
            "results/{run}/{member}/manifest.json",
            caption="../report/manifest.rst",
            category="Training",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "file": "manifest"},
        ),
    log:
        "logs/train/{run}/{member}.log",
    benchmark:
        "results/usage/train/{run}/{member}.tsv"
    wildcard_constraints:
        member=r"seed-\d+",
    conda:
        "../../envs/qa.yaml"
    threads: lambda wildcards: 4 * run_of(wildcards)["training"]["gpus"]
    resources:
        gpu=lambda wildcards: run_of(wildcards)["training"]["gpus"] * run_of(wildcards)["training"]["nodes"],
        nodes=lambda wildcards: run_of(wildcards)["training"]["nodes"],
    params:
        settings=lambda wildcards: settings.training(run_of(wildcards), CONFIG["models"]),
        seed=lambda wildcards: settings.seed_of(wildcards.member),
        code=lambda wildcards: code("train") + needs.measuring(run_of(wildcards), SCRIPTS),
        checkpoints="checkpoints/{run}/{member}",
        running=untracked(lambda wildcards: settings.running(run_of(wildcards))),
        run_settings=untracked(run_of),
        shared=untracked(lambda wildcards: sharing.shared(CONFIG, wildcards.run, wildcards.member)),
    message:
        "Fine-tuning {wildcards.run}, {wildcards.member}"
    script:
        "../scripts/train.py"


rule latest_checkpoint:
    input:
        model=lambda wildcards: "resources/models/{model}".format(model=run_of(wildcards)["model"]),
    output:
        model=directory("results/{run}/{member}/model"),
    log:
        "logs/latest_checkpoint/{run}/{member}.log",
    benchmark:
        "results/usage/latest_checkpoint/{run}/{member}.tsv"
    wildcard_constraints:
        member=r"seed-\d+-latest",
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        checkpoint=lambda wildcards: checked(latest_of, wildcards.run, wildcards.member),
        code=code("latest_checkpoint"),
    message:
        "Taking the model out of {params.checkpoint}"
    script:
        "../scripts/latest_checkpoint.py"
