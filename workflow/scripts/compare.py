"""Adapter of the rule `compare`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("compare", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa import comparison

    read, files = snakemake.params, snakemake.input
    records = dict(zip(read.splits, files.records, strict=True))
    comparison.compare(read.pairs, read.answered, files.answers, records, snakemake.output[0])
