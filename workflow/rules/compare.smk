"""Needs: scores of questions. Makes: paired differences of runs and decodings to a reference. Runs on the login node."""

from qa.config import comparisons

PAIRS, PAIRED = comparisons.compared(CONFIG, lineage.scored(CONFIG))


rule compare:
    input:
        scores=["results/{}/{}/{}/{}/question_scores.parquet".format(*answered) for answered in PAIRED],
    output:
        report(
            "results/comparison.csv",
            caption="../report/comparison.rst",
            category="All runs",
            labels={"run": "all", "file": "comparison"},
        ),
    log:
        "logs/compare.log",
    benchmark:
        "results/usage/compare.tsv"
    localrule: on_login("compare")
    conda:
        "../../envs/qa.yaml"
    params:
        pairs=PAIRS,
        answered=PAIRED,
        code=code("compare"),
    message:
        "Comparing runs and decodings question by question"
    script:
        "../scripts/compare.py"
