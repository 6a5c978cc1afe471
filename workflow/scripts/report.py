"""Adapter of the rule `report`."""

import os

from qa.jobs.stage import stage

with stage("report", snakemake) as (inputs, outputs, params):
    from contextlib import chdir

    from qa.common import checksums
    from qa.config import settings
    from qa.report import build

    page, figures = (os.path.relpath(path, params.root) for path in (outputs.page, outputs.figures))
    with chdir(params.root):
        checksums.check(params.files)  # as the stage does with inputs
        build.build(settings.resolve(params.config), page, figures)
