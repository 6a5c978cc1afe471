"""Adapter of the rule `plan_upload`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("plan_upload", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa import publishing

    publishing.plan(snakemake.input[0], **snakemake.params.publication, target=snakemake.output[0])
