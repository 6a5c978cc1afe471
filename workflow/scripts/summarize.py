"""Adapter of the rule `summarize`."""

from qa.jobs.stage import stage

with stage("summarize", snakemake) as (inputs, outputs, params):
    from qa.evaluation import summarize

    calibrations = dict(zip(map(tuple, params.calibrated), inputs.calibrations, strict=True))
    summarize.summarize(params.scored, inputs.metrics, outputs[0], params.swept, calibrations)
