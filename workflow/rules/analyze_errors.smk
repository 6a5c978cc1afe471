"""Needs: scores of questions. Makes: scores of slices, all wrong answers, risk curves. Runs on the login node."""


rule analyze_errors:
    input:
        scores=rules.score.output.question_scores,
    output:
        slices=shown("slices.csv", "Slices"),
        errors=shown("errors.parquet", "Errors"),
        risk_coverage=shown("risk_coverage.csv", "Scores"),
    log:
        "logs/analyze_errors/{run}/{variant}/{dataset}/{split}/{decoding}.log",
    benchmark:
        "results/usage/analyze_errors/{run}/{variant}/{dataset}/{split}/{decoding}.tsv"
    localrule: on_login("analyze_errors")
    conda:
        "../../envs/qa.yaml"
    params:
        code=code("analyze_errors"),
    message:
        "Looking into the answers of {wildcards.run}, {wildcards.variant}, to {wildcards.dataset}/{wildcards.split} by {wildcards.decoding}"
    script:
        "../scripts/analyze_errors.py"
