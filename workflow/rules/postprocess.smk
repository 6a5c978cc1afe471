"""Needs: spans, windows, records. Makes: answers, null scores, n-best lists by one decoding. Runs on the login node."""


def decoding_of(wildcards):
    if wildcards.decoding not in CONFIG["decodings"]:
        raise WorkflowError(f"no decoding `{wildcards.decoding}` in the configuration: {', '.join(CONFIG['decodings'])}")
    return CONFIG["decodings"][wildcards.decoding]


rule postprocess:
    input:
        spans=rules.predict.output,
        windows=rules.predict.input.windows,
        records=RECORDS,
    output:
        answers=report(
            ANSWERS + "/answers.json",
            caption="../report/answers.rst",
            category="Answers",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
        null_scores=report(
            ANSWERS + "/null_scores.json",
            caption="../report/null_scores.rst",
            category="Null scores",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
        nbest=ANSWERS + "/nbest.jsonl",
    params:
        decoding=decoding_of,
        code=code("postprocess"),
    log:
        "logs/postprocess/{run}/{member}/{dataset}/{split}/{decoding}.log",
    benchmark:
        "results/usage/postprocess/{run}/{member}/{dataset}/{split}/{decoding}.tsv"
    message:
        "Answering {wildcards.dataset}/{wildcards.split} for {wildcards.run}, {wildcards.member}, by {wildcards.decoding}"
    localrule: True
    conda:
        "../../envs/qa.yaml"
    script:
        "../scripts/postprocess.py"
