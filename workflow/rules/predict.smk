"""Needs: a fine-tuned model and windows. Makes: each window's best starts and ends with logits. Runs on a GPU."""


rule predict:
    input:
        model=rules.train.output.model,
        windows=lambda wildcards: windows_of(wildcards, f"{wildcards.dataset}/{wildcards.split}"),
    output:
        "results/{run}/{member}/{dataset}/{split}/spans.parquet",
    log:
        "logs/predict/{run}/{member}/{dataset}/{split}.log",
    benchmark:
        "results/usage/predict/{run}/{member}/{dataset}/{split}.tsv"
    conda:
        "../../envs/qa.yaml"
    threads: 4
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: settings.prediction(run_of(wildcards)),
        code=code("predict"),
    message:
        "Predicting {wildcards.dataset}/{wildcards.split} with {wildcards.run}, {wildcards.member}"
    script:
        "../scripts/predict.py"
