"""Needs: a pretrained model and labelled windows. Makes: the fine-tuned model, its history and manifest. Runs on a GPU.

Checkpoints are no declared output, since Snakemake deletes those before each attempt.
"""


def train_inputs(wildcards):
    run = run_of(wildcards)
    inputs = {"model": MODEL.format(model=run["model"]), "windows": windows_of(wildcards, run["train_on"])}
    if run["validate_on"]:
        inputs["validation"] = windows_of(wildcards, run["validate_on"])
    return inputs


rule train:
    input:
        unpack(train_inputs),
    output:
        model=directory(MEMBER + "/model"),
        history=report(
            MEMBER + "/training.csv",
            caption="../report/training.rst",
            category="Training",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "file": "history"},
        ),
        manifest=report(
            MEMBER + "/manifest.json",
            caption="../report/manifest.rst",
            category="Training",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "file": "manifest"},
        ),
    params:
        settings=lambda wildcards: settings.training(run_of(wildcards), CONFIG["models"]),
        seed=lambda wildcards: settings.seed_of(wildcards.member),
        code=code("train"),
        checkpoints="checkpoints/{run}/{member}",
        running=untracked(lambda wildcards: run_of(wildcards)["checkpoints"]),
        run_settings=untracked(run_of),
    log:
        "logs/train/{run}/{member}.log",
    benchmark:
        "results/usage/train/{run}/{member}.tsv"
    message:
        "Fine-tuning {wildcards.run}, {wildcards.member}"
    threads: 4
    resources:
        gpu=1,
    conda:
        "../../envs/qa.yaml"
    script:
        "../scripts/train.py"
