"""Needs: answers and records. Makes: the official metrics of each, and the table of all runs. Runs on the login node."""


rule score:
    input:
        answers=rules.postprocess.output.answers,
        null_scores=rules.postprocess.output.null_scores,
        nbest=rules.postprocess.output.nbest,
        records="results/questions/{dataset}/{split}.parquet",
    output:
        report(
            "results/{run}/{variant}/{dataset}/{split}/{decoding}/metrics.json",
            caption="../report/metrics.rst",
            category="Scores",
            subcategory="{run}",
            labels={"run": "{run}", "variant": "{variant}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
    log:
        "logs/score/{run}/{variant}/{dataset}/{split}/{decoding}.log",
    benchmark:
        "results/usage/score/{run}/{variant}/{dataset}/{split}/{decoding}.tsv"
    localrule: on_login("score")
    conda:
        "../../envs/qa.yaml"
    params:
        code=code("score"),
    message:
        "Scoring {wildcards.dataset}/{wildcards.split} for {wildcards.run}, {wildcards.variant}, by {wildcards.decoding}"
    script:
        "../scripts/score.py"


rule summarize:
    input:
        metrics=every_metrics(),
        calibrations=[
            f"results/{run}/{variant}/calibration/{decoding}.json"
            for run, variant, decoding in lineage.calibrated(CONFIG, lineage.scored(CONFIG))
        ],
    output:
        report(
            "results/summary.csv",
            caption="../report/summary.rst",
            category="Scores",
            subcategory="all runs",
            labels={"run": "all", "file": "summary"},
        ),
    log:
        "logs/summarize.log",
    benchmark:
        "results/usage/summarize/summary.tsv"
    localrule: on_login("summarize")
    conda:
        "../../envs/qa.yaml"
    params:
        scored=list(lineage.scored(CONFIG)),
        calibrated=lineage.calibrated(CONFIG, lineage.scored(CONFIG)),
        swept=sweeps.values_of_runs(CONFIG.sweeps),
        code=code("summarize"),
    message:
        "Summarizing the scores of all runs"
    script:
        "../scripts/summarize.py"
