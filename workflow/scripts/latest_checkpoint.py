"""Adapter of the rule `latest_checkpoint`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("latest_checkpoint", snakemake.log[0], job):
    from qa.models import export

    export(snakemake.params.checkpoint, snakemake.input.model, snakemake.output.model)
