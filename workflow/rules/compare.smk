"""Needs: answers and records. Makes: paired differences of runs and decodings to a reference. Runs on the login node."""

from qa.config import comparisons

PAIRS, PAIRED = comparisons.compared(CONFIG, lineage.scored(CONFIG))
PAIRED_SPLITS = list(dict.fromkeys(pair[0] for pair in PAIRS))


rule compare:
    input:
        answers=[f"results/{run}/{variant}/{split}/{by}/answers.json" for run, variant, split, by in PAIRED],
        records=[f"results/questions/{split}.parquet" for split in PAIRED_SPLITS],
    output:
        report(
            "results/comparison.csv",
            caption="../report/comparison.rst",
            category="Scores",
            subcategory="all runs",
            labels={"run": "all", "file": "comparison"},
        ),
    log:
        "logs/compare.log",
    benchmark:
        "results/usage/compare/comparison.tsv"
    localrule: on_login("compare")
    conda:
        "../../envs/qa.yaml"
    params:
        pairs=PAIRS,
        answered=PAIRED,
        splits=PAIRED_SPLITS,
        code=code("compare"),
    message:
        "Comparing runs and decodings question by question"
    script:
        "../scripts/compare.py"
