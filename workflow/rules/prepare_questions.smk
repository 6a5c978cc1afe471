"""Needs: a downloaded dataset. Makes: one split's questions, checked, in one schema. Runs on the login node."""


rule prepare_questions:
    input:
        "resources/datasets/{dataset}",
    output:
        "results/questions/{dataset}/{split}.parquet",
    log:
        "logs/prepare_questions/{dataset}/{split}.log",
    benchmark:
        "results/usage/prepare_questions/{dataset}/{split}.tsv"
    wildcard_constraints:
        split="[^/@]+",
    localrule: on_login("prepare_questions")
    conda:
        "../../envs/qa.yaml"
    params:
        misaligned=lambda wildcards: dataset_of(wildcards).misaligned,
        limit=lambda wildcards: dataset_of(wildcards).limit,
        files=lambda wildcards: dataset_of(wildcards).splits[wildcards.split],
        code=code("prepare_questions"),
    message:
        "Checking the questions of {wildcards.dataset}/{wildcards.split}"
    script:
        "../scripts/prepare_questions.py"
