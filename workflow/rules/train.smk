"""Needs: a pretrained model and labelled windows. Makes: the fine-tuned model, its history and manifest. Runs on a GPU.

Checkpoints are no declared output, since Snakemake deletes those before each attempt.
"""


rule train:
    input:
        unpack(train_inputs),
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
    conda:
        "../../envs/qa.yaml"
    threads: 4
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: settings.training(run_of(wildcards), CONFIG["models"]),
        seed=lambda wildcards: settings.seed_of(wildcards.member),
        code=code("train"),
        checkpoints="checkpoints/{run}/{member}",
        running=untracked(lambda wildcards: run_of(wildcards)["checkpoints"]),
        run_settings=untracked(run_of),
    message:
        "Fine-tuning {wildcards.run}, {wildcards.member}"
    script:
        "../scripts/train.py"
