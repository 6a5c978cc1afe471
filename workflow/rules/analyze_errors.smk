"""Needs: scores of questions. Makes: scores of slices, all wrong answers, risk curves. Runs on the login node."""


rule analyze_errors:
    input:
        scores=rules.score.output.question_scores,
    output:
        slices=report(
            "results/{run}/{variant}/{dataset}/{split}/{decoding}/slices.csv",
            caption="../report/slices.rst",
            category="Slices",
            subcategory="{run}",
            labels={"run": "{run}", "variant": "{variant}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
        errors=report(
            "results/{run}/{variant}/{dataset}/{split}/{decoding}/errors.parquet",
            caption="../report/errors.rst",
            category="Errors",
            subcategory="{run}",
            labels={"run": "{run}", "variant": "{variant}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
        risk_coverage=report(
            "results/{run}/{variant}/{dataset}/{split}/{decoding}/risk_coverage.csv",
            caption="../report/risk_coverage.rst",
            category="Scores",
            subcategory="{run}",
            labels={"run": "{run}", "variant": "{variant}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
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
