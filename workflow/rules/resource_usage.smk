"""Needs: the records that jobs leave in logs/jobs. Makes: what each used of what it asked for. Runs on the login node.

Its inputs are the last files of every branch, so that all jobs have been recorded. Whatever reruns remakes one of them,
and with it this table and the report.
"""

from qa.plan import expected_jobs


rule resource_usage:
    input:
        rules.summarize.output,
        rules.compare.output,
        [every(file) for file in ("slices.csv", "errors.parquet", "risk_coverage.csv")],
        PACKAGES,
    output:
        report(
            "results/resource_usage.csv",
            caption="../report/resource_usage.rst",
            category="Resources",
            labels={"run": "all", "file": "resources"},
        ),
    log:
        "logs/resource_usage.log",
    benchmark:
        "results/usage/resource_usage.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        expected=expected_jobs.jobs(CONFIG),
        root=untracked(lambda wildcards: ROOT),
        code=code("resource_usage"),
    message:
        "Comparing what the jobs used with what they had asked for"
    script:
        "../scripts/resource_usage.py"
