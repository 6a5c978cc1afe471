"""Needs: answers, n-best lists, windows, records. Makes: scores of slices, all wrong answers. Runs on the login node.

Of an ensemble, whose models may cut contexts differently, the first one's windows are counted.
"""


rule analyze_errors:
    input:
        answers=rules.postprocess.output.answers,
        nbest=rules.postprocess.output.nbest,
        records="results/questions/{dataset}/{split}.parquet",
        windows=lambda wildcards: checked(
            rule_inputs.windows,
            CONFIG,
            wildcards.run,
            wildcards.variant,
            f"{wildcards.dataset}/{wildcards.split}",
        )[0],
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
