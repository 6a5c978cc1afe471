"""Adapter of the rule `report`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("report", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.config import settings
    from qa.report import build

    build.build(settings.resolve(snakemake.params.config), snakemake.output.page, snakemake.output.figures)
