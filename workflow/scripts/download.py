"""Adapter of the rule `download`, which may use the network."""

from qa.jobs.stage import stage

with stage("download", snakemake, network=True) as (inputs, outputs, params):
    from qa.hub import download

    fetch = download.fetch_model if snakemake.wildcards.kind == "models" else download.fetch_dataset
    fetch(params.source, outputs[0])
