"""Adapter of the rule `compare`."""

from qa.jobs.stage import stage

with stage("compare", snakemake) as (inputs, outputs, params):
    from qa.evaluation import compare

    compare.compare(params.pairs, params.answered, list(inputs.scores), outputs[0])
