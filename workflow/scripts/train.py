"""Adapter of the rule `train`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
job["params"] = {**snakemake.params}
with stage("train", snakemake.log[0], job):
    from qa import training

    training.train(
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
            "member": snakemake.wildcards.member,
            "code": snakemake.params.code,
            "run_settings": snakemake.params.run_settings,
        },
    )
