"""Adapter of the rule `publish`, which may use the network."""

from qa.jobs.stage import stage

with stage("publish", snakemake, network=True) as (inputs, outputs, params):
    from qa.hub import publish

    publish.publish(str(inputs.plan), outputs[0])
