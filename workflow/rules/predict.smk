"""Needs: a fine-tuned model and windows. Makes: each window's best starts and ends with logits. Runs on a GPU."""


rule predict:
    input:
        model=rules.train.output.model,
        windows=lambda wildcards: windows_of(wildcards, f"{wildcards.dataset}/{wildcards.split}"),
    output:
        EVALUATION + "/spans.parquet",
    params:
        settings=lambda wildcards: settings.prediction(run_of(wildcards)),
        code=code("predict"),
    log:
        "logs/predict/{run}/{member}/{dataset}/{split}.log",
    benchmark:
        "results/usage/predict/{run}/{member}/{dataset}/{split}.tsv"
    message:
        "Predicting {wildcards.dataset}/{wildcards.split} with {wildcards.run}, {wildcards.member}"
    threads: 4
    resources:
        gpu=1,
    conda:
        "../../envs/qa.yaml"
    script:
        "../scripts/predict.py"
