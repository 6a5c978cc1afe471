"""Adapter of the rule `calibrate`."""

from qa.jobs.stage import stage

with stage("calibrate", snakemake) as (inputs, outputs, params):
    from qa.decoding import calibrate

    calibrate.calibrate(list(inputs.spans), list(inputs.questions), params.decoding, outputs[0], params.f1_by)
