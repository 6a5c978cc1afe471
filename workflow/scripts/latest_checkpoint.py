"""Adapter of the rule `latest_checkpoint`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("latest_checkpoint", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.checkpoints import check_whole
    from qa.models import export

    check_whole(snakemake.params.checkpoint)
    export(snakemake.params.checkpoint, snakemake.input.model, snakemake.output.model)
