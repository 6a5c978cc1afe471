"""Needs: answers, n-best lists, windows, records. Makes: scores of slices, all wrong answers. Runs on the login node.

Of an ensemble, whose models may cut contexts differently, the first one's windows are counted.
"""


rule explain:
    input:
        answers=rules.postprocess.output.answers,
        nbest=rules.postprocess.output.nbest,
        records="results/records/{dataset}/{split}.parquet",
        windows=lambda wildcards: checked(
            needs.windows,
            CONFIG,
            wildcards.run,
            wildcards.member,
            f"{wildcards.dataset}/{wildcards.split}",
        )[0],
    output:
        slices=report(
            "results/{run}/{member}/{dataset}/{split}/{decoding}/slices.csv",
            caption="../report/slices.rst",
            category="Slices",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
        errors=report(
            "results/{run}/{member}/{dataset}/{split}/{decoding}/errors.parquet",
            caption="../report/errors.rst",
            category="Errors",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
        risk_coverage=report(
            "results/{run}/{member}/{dataset}/{split}/{decoding}/risk_coverage.csv",
            caption="../report/risk_coverage.rst",
            category="Scores",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
    log:
        "logs/explain/{run}/{member}/{dataset}/{split}/{decoding}.log",
    benchmark:
        "results/usage/explain/{run}/{member}/{dataset}/{split}/{decoding}.tsv"
    localrule: on_login("explain")
    conda:
        "../../envs/qa.yaml"
    params:
        code=code("explain"),
    message:
        "Looking into the answers of {wildcards.run}, {wildcards.member}, to {wildcards.dataset}/{wildcards.split} by {wildcards.decoding}"
    script:
        "../scripts/explain.py"
