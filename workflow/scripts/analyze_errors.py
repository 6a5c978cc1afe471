"""Adapter of the rule `analyze_errors`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("analyze_errors", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.evaluation import analyze_errors, risk_coverage, slices

    given, made = snakemake.input, snakemake.output
    slices.write_slices(given.records, given.answers, given.windows, made.slices)
    risk_coverage.write_risk_coverage(given.records, given.answers, given.nbest, made.risk_coverage)
    analyze_errors.write_mistakes(given.records, given.answers, given.nbest, made.errors)
