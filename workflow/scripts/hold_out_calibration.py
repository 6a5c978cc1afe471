"""Adapter of the rule `hold_out_calibration`."""

from qa.jobs.stage import stage

with stage("hold_out_calibration", snakemake) as (inputs, outputs, params):
    from qa.data import hold_out_calibration

    hold_out_calibration.divide(inputs[0], float(snakemake.wildcards.share), outputs.kept, outputs.held_out)
