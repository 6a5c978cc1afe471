"""Needs: records and a model's tokenizer. Makes: labelled windows, shared by runs of equal settings. Runs on CPUs."""

TOKENIZATIONS = {stages.windows_id(run): stages.tokenization(run) for run in RUNS.values()}


rule tokenize_and_label:
    input:
        records="results/questions/{dataset}/{split}.parquet",
        model=lambda wildcards: "resources/models/{model}".format(
            **known("windows", wildcards.windows_id, TOKENIZATIONS)
        ),
    output:
        directory("results/windows/{dataset}/{split}/{windows_id}"),
    log:
        "logs/tokenize_and_label/{dataset}/{split}/{windows_id}.log",
    benchmark:
        "results/usage/tokenize_and_label/{dataset}/{split}/{windows_id}.tsv"
    conda:
        "../../envs/qa.yaml"
    threads: 4
    resources:
        nodes=1,
    params:
        settings=lambda wildcards: known("windows", wildcards.windows_id, TOKENIZATIONS),
        code=code("tokenize_and_label"),
    message:
        "Tokenizing and labelling {wildcards.dataset}/{wildcards.split} for {wildcards.windows_id}"
    script:
        "../scripts/tokenize_and_label.py"
