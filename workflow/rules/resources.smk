"""Needs: the records that jobs leave in logs/jobs. Makes: what each used of what it asked for. Runs on the login node.

After all else, so that everything has been recorded; what reruns remakes summary or comparison, and with them this table.
"""

from qa import expected


rule resources:
    input:
        rules.summarize.output,
        rules.compare.output,
        every("slices.csv"),
        PACKAGES,
    output:
        report(
            "results/resources.csv",
            caption="../report/resources.rst",
            category="Resources",
            labels={"run": "all", "file": "resources"},
        ),
    log:
        "logs/resources.log",
    benchmark:
        "results/usage/resources/resources.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        expected=expected.jobs(CONFIG),
        code=code("resources"),
    message:
        "Comparing what the jobs used with what they had asked for"
    script:
        "../scripts/resources.py"
