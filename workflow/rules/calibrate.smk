"""Needs: spans of held-out questions. Makes: a decoding's null threshold and temperature. Runs on the login node.

The held-out questions come along for their texts and gold answers, which spans lack. Their scores are for choosing among
the runs of a sweep.
"""


rule calibrate:
    input:
        needs(rule_inputs.calibration, "{run}", "{variant}", "{decoding}"),
    output:
        calibration=report(
            "results/{run}/{variant}/calibration/{decoding}.json",
            caption="../report/calibration.rst",
            category="Calibration",
            subcategory="{run}",
            labels={"run": "{run}", "variant": "{variant}", "decoding": "{decoding}"},
        ),
        scores="results/{run}/{variant}/calibration/{decoding}.parquet",
    log:
        "logs/calibrate/{run}/{variant}/{decoding}.log",
    benchmark:
        "results/usage/calibrate/{run}/{variant}/{decoding}.tsv"
    localrule: on_login("calibrate")
    conda:
        "../../envs/qa.yaml"
    params:
        decoding=lambda wildcards: decoding_of(wildcards).model_dump(),
        f1_by=lambda wildcards: lineage.f1_by(CONFIG, lineage.calibration_of(CONFIG, wildcards.run)),
        code=code("calibrate"),
    message:
        "Calibrating {wildcards.decoding} of {wildcards.run}, {wildcards.variant}, on questions held out"
    script:
        "../scripts/calibrate.py"
