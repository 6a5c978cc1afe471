"""Adapter of the rule `plan_upload`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("plan_upload", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.hub import publish

    publish.plan(snakemake.input[0], **snakemake.params.publication, target=snakemake.output[0])
