"""Adapter of the rule `postprocess`."""

from qa.stage import stage

with stage("postprocess", snakemake.log[0]):
    from qa import decoding

    decoding.postprocess(
        snakemake.input.spans,
        snakemake.input.windows,
        snakemake.input.records,
        snakemake.params.decoding,
        dict(snakemake.output.items()),
    )
