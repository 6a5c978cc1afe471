"""Adapter of the rule `postprocess`."""

from qa.jobs.stage import stage

with stage("postprocess", snakemake) as (inputs, outputs, params):
    from qa.decoding import postprocess

    outputs = dict(outputs.items())
    postprocess.postprocess(list(inputs.spans), inputs.questions, params.decoding, outputs, inputs.get("calibration"))
