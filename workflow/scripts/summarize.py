"""Adapter of the rule `summarize`."""

from qa.jobs.stage import stage

with stage("summarize", snakemake) as (inputs, outputs, params):
    from qa.evaluation import score

    calibrations = dict(zip(map(tuple, params.calibrated), inputs.calibrations, strict=True))
    score.summarize(params.scored, inputs.metrics, outputs[0], params.swept, calibrations)
