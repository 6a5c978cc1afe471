"""Needs: answers, n-best lists. Makes: the official metrics, and the scores of each question. Runs on the login node.

From the evaluated questions it takes how many were left out as misaligned. By the questions of training it counts
evaluated questions about contexts that the model was trained on.
"""


rule score:
    input:
        answers=rules.postprocess.output.answers,
        null_scores=rules.postprocess.output.null_scores,
        nbest=rules.postprocess.output.nbest,
        questions="results/questions/{dataset}/{split}.parquet",
        trained_on=lambda wildcards: checked(rule_inputs.trained_on, CONFIG, wildcards.run, wildcards.variant),
    output:
        metrics=shown("metrics.json", "Scores"),
        question_scores="results/{run}/{variant}/{dataset}/{split}/{decoding}/question_scores.parquet",
    log:
        "logs/score/{run}/{variant}/{dataset}/{split}/{decoding}.log",
    benchmark:
        "results/usage/score/{run}/{variant}/{dataset}/{split}/{decoding}.tsv"
    localrule: on_login("score")
    conda:
        "../../envs/qa.yaml"
    params:
        f1_by=lambda wildcards: dataset_of(wildcards).f1_by,
        limits=lambda wildcards: lineage.limits(CONFIG, wildcards.run, [f"{wildcards.dataset}/{wildcards.split}"]),
        answered_with=lambda wildcards: stages.answered_with(
            CONFIG, wildcards.run, wildcards.variant, f"{wildcards.dataset}/{wildcards.split}", wildcards.decoding
        ),
        code=code("score"),
    message:
        "Scoring {wildcards.dataset}/{wildcards.split} for {wildcards.run}, {wildcards.variant}, by {wildcards.decoding}"
    script:
        "../scripts/score.py"
