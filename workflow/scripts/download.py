"""Adapter of the rule `download`: the only stage that may use the network."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("download", snakemake.log[0], job, network=True, given=snakemake.input, made=snakemake.output):
    from qa.hub import download

    fetch = download.fetch_model if snakemake.wildcards.kind == "models" else download.fetch_dataset
    fetch(snakemake.params.source, snakemake.output[0])
