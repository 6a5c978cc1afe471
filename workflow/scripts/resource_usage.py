"""Adapter of the rule `resource_usage`."""

import os

from qa.jobs.stage import stage

with stage("resource_usage", snakemake, aggregates=True) as (inputs, outputs, params):
    from contextlib import chdir

    from qa.jobs import resource_usage

    table = os.path.relpath(outputs[0], params.root)
    with chdir(params.root):
        resource_usage.write(table, params.expected)
