"""Adapter of the rule `report`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("report", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.report import build

    build.build(snakemake.params.config, snakemake.output.page, snakemake.output.figures)
