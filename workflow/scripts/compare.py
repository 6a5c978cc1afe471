"""Adapter of the rule `compare`."""

from qa.jobs.stage import stage

with stage("compare", snakemake) as (inputs, outputs, params):
    from qa.evaluation import compare

    records = dict(zip(params.splits, inputs.records, strict=True))
    compare.compare(params.pairs, params.answered, inputs.answers, records, outputs[0])
