"""Adapter of the rule `summarize`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("summarize", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa import scores

    scores.summarize(snakemake.params.scored, snakemake.input, snakemake.output[0], snakemake.params.swept)
