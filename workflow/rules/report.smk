"""Needs: the last table. Makes: one page to read and to mail, and its figures as files. Runs on the login node.

It finds everything else that it shows by its place in results/, and compares it with its seals. All of that lies
upstream of the last table, so a change of any of it reruns the report too. The other report, `snakemake --report`, has the graph of all jobs and where each file comes from.
"""

from qa.report import page


rule report:
    input:
        rules.resource_usage.output,
    output:
        page=report(
            "results/report.html",
            caption="../report/report.rst",
            category="All runs",
            labels={"run": "all", "file": "report"},
        ),
        figures=directory("results/figures"),
    log:
        "logs/report.log",
    benchmark:
        "results/usage/report.tsv"
    localrule: on_login("report")
    conda:
        "../../envs/qa.yaml"
    params:
        config=untracked(lambda wildcards: config),  # what matters of it has remade the results
        files=untracked(lambda wildcards: rule_inputs.reported(CONFIG)),
        asked=list(lineage.scored(CONFIG)),
        page=page.digest(),
        root=untracked(lambda wildcards: ROOT),
        code=code("report"),
    message:
        "Writing results/report.html"
    script:
        "../scripts/report.py"
