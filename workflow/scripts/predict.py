"""Adapter of the rule `predict`."""

from qa.stage import stage

with stage("predict", snakemake.log[0]):
    from qa import inference

    inference.predict(
        snakemake.input.model,
        snakemake.input.windows,
        snakemake.params.settings,
        snakemake.threads,
        snakemake.output[0],
    )
