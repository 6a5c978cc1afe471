"""Needs: the hub, or the user's own files. Makes: a model's or dataset's files, verified, with their source.json.

Runs on the login node: the only rule that may use the network.
"""


def source_of(wildcards):
    known = CONFIG[wildcards.kind]
    if wildcards.name not in known:
        raise WorkflowError(f"no `{wildcards.name}` among {wildcards.kind} of the configuration: {', '.join(known)}")
    return {key: value for key, value in known[wildcards.name].items() if key not in ("overrides", "misaligned")}


def local_files(wildcards):
    """The user's own files behind a model or dataset: when they change, they are taken anew."""
    return checked(settings.local_files, source_of(wildcards), f"{wildcards.kind}.{wildcards.name}")


rule download:
    input:
        local_files,
    output:
        directory("resources/{kind}/{name}"),
    params:
        source=source_of,
        code=code("download"),
    log:
        "logs/download/{kind}/{name}.log",
    benchmark:
        "results/usage/download/{kind}/{name}.tsv"
    message:
        "Downloading {wildcards.name} ({wildcards.kind})"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    script:
        "../scripts/download.py"
