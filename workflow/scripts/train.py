"""Adapter of the rule `train`."""

from importlib import import_module

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
job["params"] = {**snakemake.params}
with stage("train", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.training import train

    # by name: neither the words of a card nor where losses are reported to are part of training's code
    name, params = snakemake.wildcards, snakemake.params
    packages = import_module("qa.hub.package")
    import_module("qa.training.trackers").prepare(params.running["report_to"], name.run, name.variant)
    train.train(
        inputs={name: str(paths) if name == "model" else list(paths) for name, paths in snakemake.input.items()},
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        running={
            **snakemake.params.running,
            "threads": snakemake.threads,
            "walltime_minutes": snakemake.resources.get("runtime"),
        },
        outputs={**snakemake.output, "checkpoints": snakemake.params.checkpoints},
        identity={
            "run": snakemake.wildcards.run,
            "variant": snakemake.wildcards.variant,
            "code": snakemake.params.code,
            "run_settings": snakemake.params.run_settings,
        },
        describe=lambda model, made: packages.describe(model, params.shared, made, snakemake.input.model),
    )
