"""Adapter of the rule `score`."""

from qa.jobs.stage import stage

with stage("score", snakemake) as (inputs, outputs, params):
    from qa.evaluation import score

    answers = {name: inputs[name] for name in ("answers", "null_scores", "nbest")}
    score.score(inputs.records, answers, outputs[0])
