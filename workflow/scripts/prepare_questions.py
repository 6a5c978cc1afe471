"""Adapter of the rule `prepare_questions`."""

from qa.jobs.stage import stage

with stage("prepare_questions", snakemake) as (inputs, outputs, params):
    from qa.data import prepare_questions

    files, names = prepare_questions.split_files(inputs[0], snakemake.wildcards.split)
    prepare_questions.convert(files, outputs[0], params.misaligned, names, params.limit)
