"""Adapter of the rule `postprocess`."""

from qa.jobs.stage import stage

with stage("postprocess", snakemake) as (inputs, outputs, params):
    from qa.decoding import given_answers, postprocess

    outputs = dict(outputs.items())
    if inputs.get("given"):
        given_answers.take(inputs.given[0], inputs.questions, outputs)
    else:
        spans = list(inputs.spans)
        postprocess.postprocess(spans, inputs.questions, params.decoding, outputs, inputs.get("calibration"))
