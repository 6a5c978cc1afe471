"""Adapter of the rule `records`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("records", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa import squad

    files = squad.split_files(snakemake.input[0], snakemake.wildcards.split)
    squad.convert(files, snakemake.output[0], snakemake.params.misaligned)
