"""Adapter of the rule `tokenize_and_label`."""

from qa.jobs.stage import stage

with stage("tokenize_and_label", snakemake) as (inputs, outputs, params):
    from qa.windows import tokenize_and_label
    from qa.windows.tokenizer import load_tokenizer

    tokenize_and_label.tokenize(inputs.records, load_tokenizer(inputs.model), params.settings, outputs[0])
