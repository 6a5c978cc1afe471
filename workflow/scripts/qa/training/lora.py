"""LoRA: an encoder's linear layers get trainable adapters of low rank, through peft, and keep their own weights.

A layer then computes W x + alpha / rank * B A x, where only A (rank rows) and B (rank columns, first 0) are trained
(Hu et al. 2021, arXiv 2106.09685). The head is trained whole. Checkpoints hold a plain model, whose weights are
W + alpha / rank * B A, and ADAPTERS to resume from.
"""

import importlib.util
from pathlib import Path
from typing import Any

from qa.common.errors import InputError
from qa.model.loading import is_of_head

ADAPTERS = "trained_weights.safetensors"  # A and B of each layer, and the head


def missing() -> list[str]:
    """What to do if peft is not installed, as one sentence; else nothing."""
    if importlib.util.find_spec("peft"):
        return []
    return [
        "training.lora_rank needs the Python package peft, which is not installed here: pip install peft, or set "
        "lora_rank: null"
    ]


def add_adapters(model: Any, rank: int, alpha: float) -> None:
    """Put an adapter on each linear layer of the encoder, in place, and freeze all other weights of the encoder.

    A is drawn from torch's random state. Raises InputError if peft is missing.
    """
    if faults := missing():
        raise InputError(*faults)
    from peft import LoraConfig, inject_adapter_in_model

    head_within = model.base_model is model  # as with T5
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        exclude_modules=["qa_outputs"] if head_within else None,
    )
    inject_adapter_in_model(config, model.base_model)
    for name, weights in model.named_parameters():
        weights.requires_grad_(weights.requires_grad or is_of_head(model, name))


def plain_weights(model: Any) -> dict[str, Any] | None:
    """The weights of the model with its adapters merged, by the names of the plain model; None without adapters.

    The model itself stays as it is: merging in place and taking it back would change W by rounding.
    """
    import torch

    state = model.state_dict()
    weights = {name.replace(".base_layer.", "."): values for name, values in state.items() if ".lora_" not in name}
    with torch.no_grad():
        for name in state:
            layer, is_weight, _ = name.partition(".base_layer.weight")
            if is_weight:
                weights[f"{layer}.weight"] = state[name] + model.get_submodule(layer).get_delta_weight("default")
    return weights if len(weights) < len(state) else None


def save_adapters(model: Any, folder: Path) -> None:
    """Write the trained weights of a model with adapters into its checkpoint."""
    from safetensors.torch import save_file

    trained = {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}
    save_file(trained, folder / ADAPTERS)


def load_adapters(model: Any, checkpoint: Path) -> None:
    """Give a model with new adapters the trained weights of a checkpoint."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(checkpoint / ADAPTERS), strict=False)
