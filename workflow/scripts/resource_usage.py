"""Adapter of the rule `resource_usage`."""

from qa.jobs.stage import stage

with stage("resource_usage", snakemake, aggregates=True) as (inputs, outputs, params):
    from contextlib import chdir
    from os.path import relpath

    from qa.jobs import resource_usage

    table = relpath(outputs[0], params.root)
    with chdir(params.root):  # the prefix of a module, as a rule the working directory
        resource_usage.write(table, params.expected)
