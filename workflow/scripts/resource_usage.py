"""Adapter of the rule `resource_usage`."""

from qa.jobs.stage import stage

with stage("resource_usage", snakemake, aggregates=True) as (inputs, outputs, params):
    from qa.jobs import resource_usage

    resource_usage.write(outputs[0], params.expected)
