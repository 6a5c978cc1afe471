"""Adapter of the rule `tokenize_and_label`."""

from importlib import import_module

from qa.jobs.stage import stage

with stage("tokenize_and_label", snakemake) as (inputs, outputs, params):
    from qa.windows import tokenize_and_label
    from qa.windows.tokenizer import load_tokenizer

    # by name, so that a change of this check tokenizes nothing again; here, so that a mistake costs no training
    import_module("qa.model.overrides").check_folder(inputs.model, params.overrides)
    tokenize_and_label.tokenize(inputs.records, load_tokenizer(inputs.model), params.settings, outputs[0])
