"""Adapter of the rule `publish`, which uses the network, as `download` does."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("publish", snakemake.log[0], job, network=True, given=snakemake.input, made=snakemake.output):
    from qa.hub import publish

    publish.publish(str(snakemake.input.plan), snakemake.output[0])
