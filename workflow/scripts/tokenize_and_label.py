"""Adapter of the rule `tokenize_and_label`."""

from qa.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
job["params"] = {**snakemake.params}
with stage("tokenize_and_label", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa import encoding, windows

    tokenizer = encoding.load_tokenizer(snakemake.input.model)
    windows.tokenize(snakemake.input.records, tokenizer, snakemake.params.settings, snakemake.output[0])
