"""Adapter of the rule `summarize`."""

from qa.stage import stage

with stage("summarize", snakemake.log[0]):
    from qa import scores

    scores.summarize(snakemake.params.scored, snakemake.input, snakemake.output[0])
