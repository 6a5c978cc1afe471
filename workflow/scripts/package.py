"""Adapter of the rule `package`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("package", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.hub import package

    given = snakemake.input
    files = {name: given[name] for name in ("manifest", "pretrained")}
    files |= {name: list(given.get(name, [])) for name in ("datasets", "metrics", "calibrations")}
    package.package(given.model, snakemake.params.shared, files, snakemake.output[0])
