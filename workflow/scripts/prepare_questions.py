"""Adapter of the rule `records`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("prepare_questions", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.data import prepare_questions

    files = prepare_questions.split_files(snakemake.input[0], snakemake.wildcards.split)
    prepare_questions.convert(files, snakemake.output[0], snakemake.params.misaligned)
