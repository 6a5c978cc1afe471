"""Adapter of the rule `analyze_errors`."""

from qa.jobs.stage import stage

with stage("analyze_errors", snakemake) as (inputs, outputs, params):
    from qa.evaluation import analyze_errors, risk_coverage, slices

    slices.write_slices(inputs.scores, outputs.slices)
    risk_coverage.write_risk_coverage(inputs.scores, outputs.risk_coverage)
    analyze_errors.write_errors(inputs.scores, outputs.errors)
