"""Needs: a teacher's spans of the training questions. Makes: soft targets for a student. Runs on the login node."""

LESSONS = {settings.lesson(run): run for run in RUNS.values() if run["teacher"]}


rule soft_targets:
    input:
        unpack(
            lambda wildcards: checked(
                needs.teaching,
                CONFIG,
                f"{wildcards.dataset}/{wildcards.split}",
                wildcards.key,
                wildcards.lesson,
            )
        ),
    output:
        "results/targets/{dataset}/{split}/{key}/{lesson}.parquet",
    log:
        "logs/soft_targets/{dataset}/{split}/{key}/{lesson}.log",
    benchmark:
        "results/usage/soft_targets/{dataset}/{split}/{key}/{lesson}.tsv"
    localrule: on_login("soft_targets")
    conda:
        "../../envs/qa.yaml"
    params:
        temperature=lambda wildcards: LESSONS[wildcards.lesson]["distillation"]["temperature"],
        code=code("soft_targets"),
    message:
        "Taking {wildcards.lesson}'s answers to {wildcards.dataset}/{wildcards.split} as soft targets"
    script:
        "../scripts/soft_targets.py"
