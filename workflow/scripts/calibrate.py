"""Adapter of the rule `calibrate`."""

from qa.jobs.stage import stage

with stage("calibrate", snakemake) as (inputs, outputs, params):
    from qa.decoding import calibrate

    files, made = (list(inputs.spans), list(inputs.questions)), (outputs.calibration, params.f1_by, outputs.scores)
    calibrate.calibrate(*files, params.decoding, *made)
