"""Adapter of the rule `package`."""

from qa.jobs.stage import stage

with stage("package", snakemake) as (inputs, outputs, params):
    from qa.hub import package

    files = {name: inputs[name] for name in ("manifest", "pretrained")}
    files |= {name: list(inputs.get(name, [])) for name in ("datasets", "metrics", "calibrations")}
    package.package(inputs.model, params.shared, files, outputs[0])
