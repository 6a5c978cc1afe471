"""Needs: spans, windows, records held out. Makes: a decoding's null threshold and temperature. Runs on the login node."""


rule calibrate:
    input:
        unpack(
            lambda wildcards: checked(needs.calibration, CONFIG, wildcards.run, wildcards.member, wildcards.decoding)
        ),
    output:
        report(
            "results/{run}/{member}/calibration/{decoding}.json",
            caption="../report/calibration.rst",
            category="Calibration",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "decoding": "{decoding}"},
        ),
    log:
        "logs/calibrate/{run}/{member}/{decoding}.log",
    benchmark:
        "results/usage/calibrate/{run}/{member}/{decoding}.tsv"
    localrule: on_login("calibrate")
    conda:
        "../../envs/qa.yaml"
    params:
        decoding=decoding_of,
        code=code("calibrate"),
    message:
        "Calibrating {wildcards.decoding} of {wildcards.run}, {wildcards.member}, on questions held out"
    script:
        "../scripts/calibrate.py"
