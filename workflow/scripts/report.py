"""Adapter of the rule `report`."""

from qa.jobs.stage import stage

with stage("report", snakemake) as (inputs, outputs, params):
    from qa.common import checksums
    from qa.config import settings
    from qa.report import build

    checksums.check(params.files)  # as the stage does with inputs
    build.build(settings.resolve(params.config), outputs.page, outputs.figures)
