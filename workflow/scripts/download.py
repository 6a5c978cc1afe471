"""Adapter of the rule `download`: the only stage that may use the network."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("download", snakemake.log[0], job, network=True, given=snakemake.input, made=snakemake.output):
    from qa import hub

    fetch = hub.fetch_model if snakemake.wildcards.kind == "models" else hub.fetch_dataset
    fetch(snakemake.params.source, snakemake.output[0])
