"""Adapter of the rule `report`."""

from qa.jobs.stage import stage

with stage("report", snakemake) as (inputs, outputs, params):
    from contextlib import chdir
    from os.path import relpath
    from pathlib import Path

    from qa.common import checksums
    from qa.common.errors import InputError, some
    from qa.config import settings
    from qa.report import build

    config, page, figures = settings.resolve(params.config), *(relpath(path, params.root) for path in outputs)
    with chdir(params.root):  # the prefix of a module, as a rule the working directory
        # as the stage does with inputs; but Snakemake makes none of these for the report alone
        again = "run again without a target"
        if missing := [file for file in params.files if not Path(file).exists()]:
            raise InputError(f"{some(missing)}: missing; {again}")
        checksums.check(params.files, again)
        build.build(config, page, figures)
