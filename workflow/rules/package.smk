"""Needs: a trained model, its scores and calibrations. Makes: a folder of it to share. Runs on the login node.

`publish_plan` lists what of which package would go to which repository of the hub, and `publish` uploads it. Both run
only when they are named, and only `publish` uses the network.
"""

from qa.common.files import sha256_of_file
from qa.hub import model_card
from qa.plan import card_facts

PACKAGES = [f"results/{run}/{variant}/package" for run, variant in lineage.trainings(CONFIG)]


rule package:
    input:
        needs(card_facts.needs_of_package, "{run}", "{variant}"),
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
        template=sha256_of_file(model_card.TEMPLATE)[:12],  # no module, and so no part of the code's digest
        code=code("package"),
    message:
        "Packing {wildcards.run}, {wildcards.variant}, to be used and shared"
    script:
        "../scripts/package.py"


rule publish_plan:
    input:
        lambda wildcards: list(checked(card_facts.publications, CONFIG)),
    output:
        "results/publish_plan.json",
    log:
        "logs/publish_plan.log",
    benchmark:
        "results/usage/publish_plan.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        publications=lambda wildcards: checked(card_facts.publications, CONFIG),
        code=code("publish_plan"),
    message:
        "Listing what would be published"
    script:
        "../scripts/publish_plan.py"


rule publish:
    input:
        packages=lambda wildcards: list(checked(card_facts.publications, CONFIG)),
        plan=rules.publish_plan.output,
    output:
        "results/published.json",
    log:
        "logs/publish.log",
    benchmark:
        "results/usage/publish.tsv"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    params:
        code=code("publish"),
    message:
        "Publishing the packages that {input.plan} lists"
    script:
        "../scripts/publish.py"
