"""Adapter of the rule `score`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("score", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.evaluation import score

    answers = {name: snakemake.input[name] for name in ("answers", "null_scores", "nbest")}
    score.score(snakemake.input.records, answers, snakemake.output[0])
