"""Adapter of the rule `postprocess`."""

from qa.jobs.stage import stage

with stage("postprocess", snakemake) as (inputs, outputs, params):
    from qa.decoding import postprocess

    postprocess.postprocess(
        list(inputs.spans),
        list(inputs.windows),
        inputs.records,
        params.decoding,
        dict(outputs.items()),
        inputs.get("calibration"),
    )
