"""Needs: a teacher's spans of the training questions. Makes: soft targets for a student. Runs on the login node.

The student's windows come along, since a soft target is a distribution over their tokens.
"""

SOFT_TARGETS_KEYS = {stages.soft_targets_key(run): run for run in RUNS.values() if run.teacher}


rule soft_targets:
    input:
        needs(rule_inputs.teaching, "{dataset}/{split}", "{windows_id}", "{soft_targets_key}"),
    output:
        "results/targets/{dataset}/{split}/{windows_id}/{soft_targets_key}.parquet",
    log:
        "logs/soft_targets/{dataset}/{split}/{windows_id}/{soft_targets_key}.log",
    benchmark:
        "results/usage/soft_targets/{dataset}/{split}/{windows_id}/{soft_targets_key}.tsv"
    localrule: on_login("soft_targets")
    conda:
        "../../envs/qa.yaml"
    params:
        temperature=lambda wildcards: SOFT_TARGETS_KEYS[wildcards.soft_targets_key].distillation.temperature,
        code=code("soft_targets"),
    message:
        "Taking {wildcards.soft_targets_key}'s answers to {wildcards.dataset}/{wildcards.split} as soft targets"
    script:
        "../scripts/soft_targets.py"
