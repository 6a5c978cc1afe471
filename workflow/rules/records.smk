"""Needs: a downloaded dataset. Makes: one split's questions, checked, in one schema. Runs on the login node."""


rule records:
    input:
        DATASET,
    output:
        RECORDS,
    params:
        misaligned=lambda wildcards: CONFIG["datasets"][wildcards.dataset]["misaligned"],
        files=lambda wildcards: CONFIG["datasets"][wildcards.dataset]["splits"][wildcards.split],
        code=code("records"),
    log:
        "logs/records/{dataset}/{split}.log",
    benchmark:
        "results/usage/records/{dataset}/{split}.tsv"
    message:
        "Checking the questions of {wildcards.dataset}/{wildcards.split}"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    script:
        "../scripts/records.py"
