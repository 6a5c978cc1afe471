"""Adapter of the rule `explain`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("explain", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa import curves, mistakes, slices

    given, made = snakemake.input, snakemake.output
    slices.write_slices(given.records, given.answers, given.windows, made.slices)
    curves.write_risk_coverage(given.records, given.answers, given.nbest, made.risk_coverage)
    mistakes.write_mistakes(given.records, given.answers, given.nbest, made.errors)
