"""Adapter of the rule `hold_out`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("hold_out", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa import holding_out

    share = float(snakemake.wildcards.share)
    holding_out.divide(snakemake.input[0], share, snakemake.output.kept, snakemake.output.held_out)
