"""Adapter of the rule `resources`, which keeps no record of itself: it is still running when it reads them."""

from qa.jobs.stage import stage

with stage("resource_usage", snakemake.log[0], made=snakemake.output):
    from qa.jobs import resource_usage

    resource_usage.write(snakemake.output[0], snakemake.params.expected)
