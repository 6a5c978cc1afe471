"""Needs: a split's records. Makes: those that train, and those held out to calibrate. Runs on the login node."""


rule hold_out_calibration:
    input:
        "results/questions/{dataset}/{split}.parquet",
    output:
        kept="results/questions/{dataset}/{split}@kept-{share}.parquet",
        held_out="results/questions/{dataset}/{split}@held-out-{share}.parquet",
    log:
        "logs/hold_out_calibration/{dataset}/{split}@{share}.log",
    benchmark:
        "results/usage/hold_out_calibration/{dataset}/{split}@{share}.tsv"
    wildcard_constraints:
        split="[^/@]+",
    localrule: on_login("hold_out_calibration")
    conda:
        "../../envs/qa.yaml"
    params:
        code=code("hold_out_calibration"),
    message:
        "Holding out {wildcards.share} of {wildcards.dataset}/{wildcards.split} for calibration"
    script:
        "../scripts/hold_out_calibration.py"
