"""Adapter of the rule `compare`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("compare", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.evaluation import compare

    read, files = snakemake.params, snakemake.input
    records = dict(zip(read.splits, files.records, strict=True))
    compare.compare(read.pairs, read.answered, files.answers, records, snakemake.output[0])
