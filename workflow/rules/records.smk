"""Needs: a downloaded dataset. Makes: one split's questions, checked, in one schema. Runs on the login node."""


rule records:
    input:
        "resources/datasets/{dataset}",
    output:
        "results/records/{dataset}/{split}.parquet",
    log:
        "logs/records/{dataset}/{split}.log",
    benchmark:
        "results/usage/records/{dataset}/{split}.tsv"
    wildcard_constraints:
        split="[^/@]+",
    localrule: on_login("records")
    conda:
        "../../envs/qa.yaml"
    params:
        misaligned=lambda wildcards: dataset_of(wildcards)["misaligned"],
        files=lambda wildcards: dataset_of(wildcards)["splits"][wildcards.split],
        code=code("records"),
    message:
        "Checking the questions of {wildcards.dataset}/{wildcards.split}"
    script:
        "../scripts/records.py"
