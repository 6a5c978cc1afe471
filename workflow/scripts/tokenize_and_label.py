"""Adapter of the rule `tokenize_and_label`."""

from importlib import import_module

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
job["params"] = {**snakemake.params}
with stage("tokenize_and_label", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.windows import tokenize_and_label
    from qa.windows import tokenizer as encoding

    # by name, so that a change of this check tokenizes nothing again; here, so that a mistake costs no training
    import_module("qa.model.overrides").check_folder(snakemake.input.model, snakemake.params.overrides)
    tokenizer = encoding.load_tokenizer(snakemake.input.model)
    tokenize_and_label.tokenize(snakemake.input.records, tokenizer, snakemake.params.settings, snakemake.output[0])
