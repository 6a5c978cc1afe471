"""Adapter of the rule `publish_plan`."""

from qa.jobs.stage import stage

with stage("publish_plan", snakemake) as (inputs, outputs, params):
    from qa.hub import publish

    publish.plan(params.publications, outputs[0])
