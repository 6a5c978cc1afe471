"""Adapter of the rule `train`."""

from importlib import import_module

from qa.jobs.stage import stage

with stage("train", snakemake):
    from qa.training import spec, train

    # by name: neither the words of a card nor where losses are reported to are part of training's code
    package = import_module("qa.hub.package")
    trackers = import_module("qa.training.trackers")
    wildcards, params = snakemake.wildcards, snakemake.params
    options = spec.RuntimeOptions(
        **params.runtime_options, threads=snakemake.threads, walltime_minutes=snakemake.resources.get("runtime")
    )
    trackers.prepare(options.report_to, wildcards.run, wildcards.variant)
    files = dict(snakemake.input.items())
    pretrained = files.pop("pretrained", files["model"])
    inputs, settings = spec.TrainingInputs.of(files), spec.TrainingSettings.of(params.settings)
    train.train(
        spec.TrainingSpec(inputs, settings, params.seed, options),
        spec.TrainingOutputs(**snakemake.output, checkpoints=params.checkpoints),
        spec.Identity(wildcards.run, wildcards.variant, params.code, params.run_settings),
        describe=lambda model, facts: package.describe(model, params.shared, facts, pretrained),
    )
