"""Needs: the hub, or the user's own files. Makes: a model's or dataset's files, verified, with their source.json.

Runs on the login node: the only rule that may use the network.
"""


rule download:
    input:
        lambda wildcards: own_files(wildcards.kind, wildcards.name),
    output:
        directory("resources/{kind}/{name}"),
    log:
        "logs/download/{kind}/{name}.log",
    benchmark:
        "results/usage/download/{kind}/{name}.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        source=lambda wildcards: stages.source(
            known(wildcards.kind[:-1], wildcards.name, getattr(CONFIG, wildcards.kind))
        ),
        own=lambda wildcards: [timestamps.state_of(file) for file in own_files(wildcards.kind, wildcards.name)],
        code=code("download"),
    message:
        "Downloading {wildcards.name} ({wildcards.kind})"
    script:
        "../scripts/download.py"
