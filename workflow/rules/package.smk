"""Needs: a trained model, its scores and calibrations. Makes: a folder of it to share. Runs on the login node.

`publish` uploads such folders to the hub, and `publish_plan` says beforehand what would go where. Both are off unless
named, and only `upload` uses the network.
"""

from qa.plan import card_facts

PACKAGES = card_facts.packages(CONFIG)


rule package:
    input:
        unpack(lambda wildcards: checked(card_facts.needs_of_package, CONFIG, wildcards.run, wildcards.variant)),
    output:
        directory("results/{run}/{variant}/package"),
    log:
        "logs/package/{run}/{variant}.log",
    benchmark:
        "results/usage/package/{run}/{variant}.tsv"
    wildcard_constraints:
        variant=r"seed-\d+",
    localrule: on_login("package")
    conda:
        "../../envs/qa.yaml"
    params:
        shared=lambda wildcards: checked(card_facts.shared, CONFIG, wildcards.run, wildcards.variant),
        code=code("package"),
    message:
        "Packing {wildcards.run}, {wildcards.variant}, to be used and shared"
    script:
        "../scripts/package.py"


rule plan_upload:
    input:
        rules.package.output,
    output:
        "results/{run}/{variant}/publish_plan.json",
    log:
        "logs/plan_upload/{run}/{variant}.log",
    benchmark:
        "results/usage/plan_upload/{run}/{variant}.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        publication=lambda wildcards: checked(card_facts.publication, CONFIG, wildcards.run, wildcards.variant),
        code=code("plan_upload"),
    message:
        "Listing what of {wildcards.run}, {wildcards.variant}, would be published"
    script:
        "../scripts/plan_upload.py"


rule upload:
    input:
        package=rules.package.output,
        plan=rules.plan_upload.output,
    output:
        "results/{run}/{variant}/published.json",
    log:
        "logs/upload/{run}/{variant}.log",
    benchmark:
        "results/usage/upload/{run}/{variant}.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        code=code("upload"),
    message:
        "Publishing {wildcards.run}, {wildcards.variant}"
    script:
        "../scripts/upload.py"


localrules:
    publish_plan,
    publish,


rule publish_plan:
    input:
        lambda wildcards: checked(card_facts.publications, CONFIG, "publish_plan.json"),


rule publish:
    input:
        lambda wildcards: checked(card_facts.publications, CONFIG, "published.json"),
