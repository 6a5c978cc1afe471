"""Needs: a fine-tuned model and windows. Makes: each window's best starts and ends with logits. Runs on a GPU."""


rule predict:
    input:
        model=lambda wildcards: lineage.model_folder(wildcards.run, run_of(wildcards), wildcards.variant),
        windows=lambda wildcards: stages.windows_folder(run_of(wildcards), f"{wildcards.dataset}/{wildcards.split}"),
    output:
        "results/{run}/{variant}/{dataset}/{split}/spans.parquet",
    log:
        "logs/predict/{run}/{variant}/{dataset}/{split}.log",
    benchmark:
        "results/usage/predict/{run}/{variant}/{dataset}/{split}.tsv"
    wildcard_constraints:
        variant=r"seed-\d+(-latest)?|published",
    conda:
        "../../envs/qa.yaml"
    threads: 4
    resources:
        gpu=1,
        nodes=1,
    params:
        settings=lambda wildcards: stages.prediction(run_of(wildcards), CONFIG.models),
        code=code("predict"),
    message:
        "Predicting {wildcards.dataset}/{wildcards.split} with {wildcards.run}, {wildcards.variant}"
    script:
        "../scripts/predict.py"
