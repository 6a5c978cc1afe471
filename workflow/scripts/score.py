"""Adapter of the rule `score`."""

from qa.jobs.stage import stage

with stage("score", snakemake) as (inputs, outputs, params):
    from qa.evaluation import score

    score.score(inputs.answers, inputs.null_scores, inputs.nbest, outputs.metrics, outputs.question_scores)
