"""Needs: spans, windows, records. Makes: answers, null scores, n-best lists by one decoding. Runs on the login node."""


rule postprocess:
    input:
        spans=rules.predict.output[0],
        windows=rules.predict.input.windows,
        records="results/records/{dataset}/{split}.parquet",
    output:
        answers=report(
            "results/{run}/{member}/{dataset}/{split}/{decoding}/answers.json",
            caption="../report/answers.rst",
            category="Answers",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
        null_scores=report(
            "results/{run}/{member}/{dataset}/{split}/{decoding}/null_scores.json",
            caption="../report/null_scores.rst",
            category="Null scores",
            subcategory="{run}",
            labels={"run": "{run}", "member": "{member}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
        ),
        nbest="results/{run}/{member}/{dataset}/{split}/{decoding}/nbest.parquet",
    log:
        "logs/postprocess/{run}/{member}/{dataset}/{split}/{decoding}.log",
    benchmark:
        "results/usage/postprocess/{run}/{member}/{dataset}/{split}/{decoding}.tsv"
    localrule: on_login("postprocess")
    conda:
        "../../envs/qa.yaml"
    params:
        decoding=decoding_of,
        code=code("postprocess"),
    message:
        "Answering {wildcards.dataset}/{wildcards.split} for {wildcards.run}, {wildcards.member}, by {wildcards.decoding}"
    script:
        "../scripts/postprocess.py"
