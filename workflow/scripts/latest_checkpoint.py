"""Adapter of the rule `latest_checkpoint`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("latest_checkpoint", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.model.loading import export
    from qa.training.checkpoints import check_whole

    check_whole(snakemake.params.checkpoint)
    export(snakemake.params.checkpoint, snakemake.input.model, snakemake.output.model)
