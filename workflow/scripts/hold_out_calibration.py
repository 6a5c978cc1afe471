"""Adapter of the rule `hold_out`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("hold_out_calibration", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.data import hold_out_calibration

    share = float(snakemake.wildcards.share)
    hold_out_calibration.divide(snakemake.input[0], share, snakemake.output.kept, snakemake.output.held_out)
