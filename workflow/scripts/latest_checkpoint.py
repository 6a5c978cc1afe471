"""Adapter of the rule `latest_checkpoint`."""

from qa.jobs.stage import stage

with stage("latest_checkpoint", snakemake) as (inputs, outputs, params):
    from qa.model.loading import export
    from qa.training.checkpoints import check_whole

    check_whole(params.checkpoint)
    export(params.checkpoint, inputs.model, outputs.model)
