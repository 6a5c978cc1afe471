"""Needs: spans, questions. Makes: answers, null scores, probabilities of no answer and n-best lists by one decoding.

Runs on the login node. An ensemble's spans are those of its models. Answers of another system come from the user's file
instead. The questions come along for their contexts, which answers are cut from; n-best lists carry the questions on to
the later stages.
"""


rule postprocess:
    input:
        needs(rule_inputs.answering, "{run}", "{variant}", "{dataset}/{split}", "{decoding}"),
        given=lambda wildcards: own_files("answers", f"{wildcards.run}/{wildcards.dataset}/{wildcards.split}"),
    output:
        answers=shown("answers.json", "Answers"),
        null_scores=shown("null_scores.json", "Null scores"),
        no_answer_probabilities="results/{run}/{variant}/{dataset}/{split}/{decoding}/no_answer_probabilities.json",
        nbest="results/{run}/{variant}/{dataset}/{split}/{decoding}/nbest.parquet",
    log:
        "logs/postprocess/{run}/{variant}/{dataset}/{split}/{decoding}.log",
    benchmark:
        "results/usage/postprocess/{run}/{variant}/{dataset}/{split}/{decoding}.tsv"
    localrule: on_login("postprocess")
    conda:
        "../../envs/qa.yaml"
    params:
        decoding=lambda wildcards: stages.answering(decoding_of(wildcards)),
        given=lambda wildcards: [
            timestamps.state_of(file)
            for file in own_files("answers", f"{wildcards.run}/{wildcards.dataset}/{wildcards.split}")
        ],
        code=code("postprocess"),
    message:
        "Answering {wildcards.dataset}/{wildcards.split} for {wildcards.run}, {wildcards.variant}, by {wildcards.decoding}"
    script:
        "../scripts/postprocess.py"
