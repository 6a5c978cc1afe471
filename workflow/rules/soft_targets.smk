"""Needs: a teacher's spans of the training questions. Makes: soft targets for a student. Runs on the login node."""

LESSONS = {settings.lesson(run): run for run in RUNS.values() if run["teacher"]}


def teacher_inputs(wildcards):
    if wildcards.lesson not in LESSONS:
        raise WorkflowError(f"no run of the configuration is taught {wildcards.lesson}; there are {', '.join(LESSONS)}")
    split = f"{wildcards.dataset}/{wildcards.split}"
    teachers = lineage.parts_named(CONFIG, LESSONS[wildcards.lesson]["teacher"])
    return {
        "spans": [f"results/{run}/{member}/{split}/spans.parquet" for run, member in teachers],
        "windows": [settings.windows_folder(RUNS[run], split) for run, _ in teachers],
        "records": f"results/records/{split}.parquet",
        "student": f"results/windows/{split}/{wildcards.key}",
    }


rule soft_targets:
    input:
        unpack(teacher_inputs),
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
