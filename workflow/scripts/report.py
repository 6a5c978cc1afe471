"""Adapter of the rule `report`."""

from qa.jobs.stage import stage

with stage("report", snakemake) as (inputs, outputs, params):
    from qa.config import settings
    from qa.report import build

    build.build(settings.resolve(params.config), outputs.page, outputs.figures)
