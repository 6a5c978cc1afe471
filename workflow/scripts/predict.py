"""Adapter of the rule `predict`."""

from qa.jobs.stage import stage

with stage("predict", snakemake) as (inputs, outputs, params):
    from qa.model import predict

    predict.predict(inputs.model, inputs.windows, params.settings, snakemake.threads, outputs[0])
