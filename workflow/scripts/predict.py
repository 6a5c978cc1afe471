"""Adapter of the rule `predict`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
job["params"] = {**snakemake.params}
with stage("predict", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.model import predict

    predict.predict(
        snakemake.input.model,
        snakemake.input.windows,
        snakemake.params.settings,
        snakemake.threads,
        snakemake.output[0],
    )
