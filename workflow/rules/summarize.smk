"""Needs: the metrics of all answers. Makes: the table of all runs. Runs on the login node."""


rule summarize:
    input:
        metrics=every("metrics.json"),
        # metrics.json knows no held-out questions, and settings are chosen by the scores on those
        calibrations=[
            f"results/{run}/{variant}/calibration/{decoding}.json"
            for run, variant, decoding in lineage.calibrated(CONFIG, lineage.scored(CONFIG))
        ],
    output:
        report(
            "results/summary.csv",
            caption="../report/summary.rst",
            category="All runs",
            labels={"run": "all", "file": "summary"},
        ),
    log:
        "logs/summarize.log",
    benchmark:
        "results/usage/summarize.tsv"
    localrule: on_login("summarize")
    conda:
        "../../envs/qa.yaml"
    params:
        scored=list(lineage.scored(CONFIG)),
        calibrated=lineage.calibrated(CONFIG, lineage.scored(CONFIG)),
        swept={run: values for runs in CONFIG.sweeps.values() for run, values in runs.items()},
        code=code("summarize"),
    message:
        "Summarizing the scores of all runs"
    script:
        "../scripts/summarize.py"
