"""Adapter of the rule `publish_plan`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("publish_plan", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.hub import publish

    publish.plan(snakemake.params.publications, snakemake.output[0])
