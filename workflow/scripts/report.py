"""Adapter of the rule `report`."""

from qa.jobs.stage import stage

with stage("report", snakemake) as (inputs, outputs, params):
    from contextlib import chdir
    from os.path import relpath

    from qa.common import checksums
    from qa.config import settings
    from qa.report import build

    config, page, figures = settings.resolve(params.config), *(relpath(path, params.root) for path in outputs)
    with chdir(params.root):  # the prefix of a module, as a rule the working directory
        # as the stage does with inputs; but the report alone has none of these made
        checksums.check(params.files, then="run again without a target")
        build.build(config, page, figures)
