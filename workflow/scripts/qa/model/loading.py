"""Models: loaded from local safetensors only, with a head for extractive question answering."""

import inspect
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, first_line, shortage, some
from qa.common.files import written_aside
from qa.model.overrides import override, read_config

ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")  # as configurations name it


def load_model(path: str | Path, overrides: dict[str, Any] | None = None, trained: bool = False) -> Any:
    """Load a folder's model with AutoModelForQuestionAnswering, fp32, from safetensors, without remote code.

    `overrides` replace values of its configuration. A missing head is drawn from torch's random state, unless the model
    must be `trained`. Raises InputError where the architecture has no such head; a file is missing or broken; the
    configuration refuses `overrides`; weights are not finite; weights of the encoder are missing or have other
    shapes; or the head of a `trained` model is missing. A machine's error (`errors.shortage`) is raised unchanged.
    """
    import torch
    from transformers import AutoModelForQuestionAnswering
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it would warn of a new head, and of the pooler, which is not needed
    config = read_config(path)
    override(config, path, overrides or {})
    config.num_labels = 2  # a start and an end: classifiers have other numbers
    try:
        model, info = AutoModelForQuestionAnswering.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # weights that do not fit the configuration raise errors of many kinds
        if shortage(error):
            raise
        fault = f"cannot be loaded for question answering ({first_line(error)})"
        if type(error).__name__ == "SafetensorError":  # the class is not public
            fault = f"its safetensors file is broken ({error}); remove the folder and download again"
        raise InputError(f"{path}: {fault}") from None
    # Save weights under the modules' names. transformers 5.5 would save BERT's norms under their historic names, which
    # its Trainer then silently skips when it resumes from the checkpoint.
    model._weight_conversions = []
    if broken := [name for name, weights in model.named_parameters() if not weights.isfinite().all()]:
        raise InputError(
            f"{path}: weights that are no finite numbers: {some(broken)}; the training that made them diverged, use "
            "another model"
        )
    missing = sorted(key for key in info["missing_keys"] if not is_of_head(model, key))
    if missing:
        raise InputError(f"{path}: weights of the encoder are missing: {some(missing)}; are config and weights a pair?")
    if trained and info["missing_keys"]:
        raise InputError(
            f"{path}: not fine-tuned for question answering, it has no {some(sorted(info['missing_keys']))}; name a "
            "model that is, or let the run fine-tune this one (train_on)"
        )
    return model


def is_of_head(model: Any, name: str) -> bool:
    """Whether the weights of this name are the head's, not the encoder's."""
    if model.base_model is model:  # T5 has no part with its encoder only
        return name.startswith("qa_outputs.")
    return not name.startswith(f"{model.base_model_prefix}.")


def with_attention_dropout(path: str | Path, overrides: dict[str, Any], dropout: float | None) -> dict[str, Any]:
    """`overrides` for `load_model`, with the attention's dropout (0 to 1) added. None keeps the model's own.

    Raises InputError where the model's configuration has no attention dropout under a known name.
    """
    if dropout is None or any(name in overrides for name in ATTENTION_DROPOUT):
        return overrides
    config = read_config(path)
    names = [name for name in ATTENTION_DROPOUT if hasattr(config, name)]
    if not names:
        raise InputError(
            f"training.attention_dropout: {type(config).__name__} of {path} has no {some(ATTENTION_DROPOUT)}; set null"
        )
    return {**overrides, names[0]: dropout}


def export(checkpoint: str | Path, pretrained: str | Path, folder: str | Path) -> None:
    """Write a checkpoint's model and the pretrained model's tokenizer as a folder for from_pretrained.

    Raises InputError where the checkpoint cannot be loaded.
    """
    save_model(load_model(checkpoint), pretrained, folder)


def save_model(model: Any, pretrained: str | Path, folder: str | Path) -> None:
    """Write a model and the pretrained model's tokenizer as a folder for from_pretrained."""
    from qa.windows.tokenizer import load_tokenizer

    with written_aside(folder, directory=True) as partial:
        model.save_pretrained(partial)
        load_tokenizer(pretrained).save_pretrained(partial)


def inputs_of(model: Any, names: list[str]) -> list[str]:
    """Those of `names` that the model's forward takes. DistilBERT and ModernBERT, for example, take no token types."""
    parameters = inspect.signature(model.forward).parameters
    return [name for name in names if name in parameters]
