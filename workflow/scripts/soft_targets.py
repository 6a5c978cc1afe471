"""Adapter of the rule `soft_targets`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("soft_targets", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.training import soft_targets

    soft_targets.write_targets(
        list(snakemake.input.spans),
        list(snakemake.input.windows),
        snakemake.input.records,
        snakemake.input.student,
        snakemake.params.temperature,
        snakemake.output[0],
    )
