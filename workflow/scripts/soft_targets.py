"""Adapter of the rule `soft_targets`."""

from qa.jobs.stage import stage

with stage("soft_targets", snakemake) as (inputs, outputs, params):
    from qa.training import soft_targets

    soft_targets.write_targets(list(inputs.spans), inputs.student, params.temperature, outputs[0])
