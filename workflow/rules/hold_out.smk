"""Needs: a split's records. Makes: those that train, and those held out to calibrate. Runs on the login node."""


rule hold_out:
    input:
        "results/records/{dataset}/{split}.parquet",
    output:
        kept="results/records/{dataset}/{split}@kept-{share}.parquet",
        held_out="results/records/{dataset}/{split}@held-out-{share}.parquet",
    log:
        "logs/hold_out/{dataset}/{split}@{share}.log",
    benchmark:
        "results/usage/hold_out/{dataset}/{split}@{share}.tsv"
    wildcard_constraints:
        split="[^/@]+",
    localrule: on_login("hold_out")
    conda:
        "../../envs/qa.yaml"
    params:
        code=code("hold_out"),
    message:
        "Holding out {wildcards.share} of {wildcards.dataset}/{wildcards.split} for calibration"
    script:
        "../scripts/hold_out.py"
