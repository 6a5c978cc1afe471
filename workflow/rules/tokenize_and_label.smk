"""Needs: records and a model's tokenizer. Makes: labelled windows, shared by runs of equal settings. Runs on CPUs."""


rule tokenize_and_label:
    input:
        records=RECORDS,
        model=lambda wildcards: MODEL.format(model=tokenization_of(wildcards)["model"]),
    output:
        directory(WINDOWS),
    params:
        settings=tokenization_of,
        code=code("tokenize_and_label"),
    log:
        "logs/tokenize_and_label/{dataset}/{split}/{key}.log",
    benchmark:
        "results/usage/tokenize_and_label/{dataset}/{split}/{key}.tsv"
    message:
        "Tokenizing and labelling {wildcards.dataset}/{wildcards.split} for {wildcards.key}"
    threads: 4
    conda:
        "../../envs/qa.yaml"
    script:
        "../scripts/tokenize_and_label.py"
