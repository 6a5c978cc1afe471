"""Adapter of the rule `postprocess`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("postprocess", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.decoding import postprocess

    postprocess.postprocess(
        list(snakemake.input.spans),
        list(snakemake.input.windows),
        snakemake.input.records,
        snakemake.params.decoding,
        dict(snakemake.output.items()),
        snakemake.input.get("calibration"),
    )
