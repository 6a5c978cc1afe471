"""Adapter of the rule `score`."""

from qa.jobs.stage import stage

with stage("score", snakemake) as (inputs, outputs, params):
    from qa.evaluation import score

    files = inputs.answers, inputs.null_scores, inputs.nbest, outputs.metrics, outputs.question_scores
    score.score(*files, params.f1_by, params.limits, inputs.trained_on, params.answered_with, inputs.questions)
