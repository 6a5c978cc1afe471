"""Needs: a trained model, its scores and calibrations. Makes: a folder of it to share. Runs on the login node.

`publish` uploads such folders to the hub, and `publish_plan` says beforehand what would go where. Both are off unless
named, and only `upload` uses the network.
"""

from qa import sharing

PACKAGES = sharing.packages(CONFIG)


rule package:
    input:
        unpack(lambda wildcards: checked(sharing.needs_of_package, CONFIG, wildcards.run, wildcards.member)),
    output:
        directory("results/{run}/{member}/package"),
    log:
        "logs/package/{run}/{member}.log",
    benchmark:
        "results/usage/package/{run}/{member}.tsv"
    wildcard_constraints:
        member=r"seed-\d+",
    localrule: on_login("package")
    conda:
        "../../envs/qa.yaml"
    params:
        shared=lambda wildcards: checked(sharing.shared, CONFIG, wildcards.run, wildcards.member),
        code=code("package"),
    message:
        "Packing {wildcards.run}, {wildcards.member}, to be used and shared"
    script:
        "../scripts/package.py"


rule plan_upload:
    input:
        rules.package.output,
    output:
        "results/{run}/{member}/publish_plan.json",
    log:
        "logs/plan_upload/{run}/{member}.log",
    benchmark:
        "results/usage/plan_upload/{run}/{member}.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        publication=lambda wildcards: checked(sharing.publication, CONFIG, wildcards.run, wildcards.member),
        code=code("plan_upload"),
    message:
        "Listing what of {wildcards.run}, {wildcards.member}, would be published"
    script:
        "../scripts/plan_upload.py"


rule upload:
    input:
        package=rules.package.output,
        plan=rules.plan_upload.output,
    output:
        "results/{run}/{member}/published.json",
    log:
        "logs/upload/{run}/{member}.log",
    benchmark:
        "results/usage/upload/{run}/{member}.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        code=code("upload"),
    message:
        "Publishing {wildcards.run}, {wildcards.member}"
    script:
        "../scripts/upload.py"


localrules:
    publish_plan,
    publish,


rule publish_plan:
    input:
        lambda wildcards: checked(sharing.publications, CONFIG, "publish_plan.json"),


rule publish:
    input:
        lambda wildcards: checked(sharing.publications, CONFIG, "published.json"),
