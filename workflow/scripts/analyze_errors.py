"""Adapter of the rule `analyze_errors`."""

from qa.jobs.stage import stage

with stage("analyze_errors", snakemake) as (inputs, outputs, params):
    from qa.evaluation import analyze_errors, risk_coverage, slices

    slices.write_slices(inputs.records, inputs.answers, inputs.windows, outputs.slices)
    risk_coverage.write_risk_coverage(inputs.records, inputs.answers, inputs.nbest, outputs.risk_coverage)
    analyze_errors.write_mistakes(inputs.records, inputs.answers, inputs.nbest, outputs.errors)
