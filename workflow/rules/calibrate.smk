"""Needs: spans, windows, records held out. Makes: a decoding's null threshold and temperature. Runs on the login node."""


def calibration_inputs(wildcards):
    """Files of the held-out questions, split by split, and of each split one for each of the member's models."""
    run, member = wildcards.run, wildcards.member
    checked(lineage.parts, CONFIG, run, member)
    splits = checked(lineage.calibration_of, CONFIG, run)
    if not splits or not lineage.is_calibrated(decoding_of(wildcards)):
        raise WorkflowError(
            f"nothing to calibrate: run `{run}` holds no questions out, or `{wildcards.decoding}` has no "
            "`null_threshold: calibrated`"
        )
    return {
        "records": [f"results/records/{split}.parquet" for split in splits],
        "spans": [file for split in splits for file in lineage.spans(CONFIG, run, member, split)],
        "windows": [file for split in splits for file in settings.windows_folders(CONFIG, run, member, split)],
    }


rule calibrate:
    input:
        unpack(calibration_inputs),
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
