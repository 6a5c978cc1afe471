"""Adapter of the rule `summarize`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("summarize", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.evaluation import score

    given, params = snakemake.input, snakemake.params
    calibrations = dict(zip(map(tuple, params.calibrated), given.calibrations, strict=True))
    score.summarize(params.scored, given.metrics, snakemake.output[0], params.swept, calibrations)
