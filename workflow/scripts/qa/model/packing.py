"""Packed rows: windows end to end in one row, each with its own positions and attention within itself.

`collator` lets a model compute them if it can, which trials show. `prepare` makes one trial. A trial that fails undoes
what it has changed, and what the trials before it have. Their order:

1. In fp32, where the model is. With `joined`, by joined projections; if that fails, without them.
2. On a GPU, there and in the precision of the work, by the varlen kernel if it works here (`attention.try_varlen`).
3. If 2 fails with the varlen kernel, the same by padded attention, without joined projections.

A model that fails in 1, or in the last trial on its GPU, gets padded rows.
"""

import logging
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from qa.common.errors import first_line
from qa.model import attention, devices, disentangled, joined_products
from qa.model.collators import PackingCollator, PaddingCollator
from qa.model.loading import ATTENTION_DROPOUT, inputs_of
from qa.model.window_dataset import POSITIONS, SOFT_TARGETS, TokenRows

PROBED = (3, 160, 5)  # tokens of the windows that a model is tried with; 160 exceed any sliding window
TOLERANCE = 1e-4  # of the greatest logit; in fp32, other orders of summing differ far less
ROUNDING = 0.05  # of the greatest logit, in other precisions

CPU = torch.device("cpu")

log = logging.getLogger(__name__)
AttentionInterface.register(attention.NAME, attention.packed_attention)


def prepare(model: Any, precision: str = "fp32", joined: bool = False) -> str:
    """Let a model compute packed rows from now on. Returns "", or the reason why it cannot; it is then unchanged.

    A trial decides: three windows must give the same logits packed as padded. So there is no list of architectures;
    the trial finds encoders with relative positions or convolutions, for example. It runs in `precision` on the
    model's device. `joined`: queries, keys and values are one product from now on (see `joined_products`).
    """
    name = type(model).__name__
    if not (disentangled.suits(model) or getattr(model, "_supports_attention_backend", False)):
        return f"{name} declares no attention backend"
    before, training = model.config._attn_implementation, model.training
    rows, packer = _probe(model), _packer(model, model.device)
    model.eval()
    try:
        with torch.no_grad(), devices.precision_context(precision):
            padded = _logits(model, PaddingCollator(0, 0, left=False)(rows))
            if joined:
                joined_products.join(model)
            if disentangled.suits(model):
                disentangled.pack(model)
            else:
                model.config._attn_implementation = attention.NAME  # set_attn_implementation refuses some that can
            packed = _logits(model, packer(rows))
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
        fault = f"{name} cannot compute packed rows ({type(error).__name__}: {first_line(error)})"
    else:
        real = torch.arange(padded.shape[2]) < torch.from_numpy(rows.lengths)[:, None]
        difference = ((padded - packed).abs() * real).max().item() / (padded.abs() * real).max().item()
        same = difference < (TOLERANCE if precision == "fp32" else ROUNDING)
        fault = "" if same else f"packed rows give other logits with {name} (by {difference:.1%})"
    finally:
        model.train(training)
    if fault:
        model.config._attn_implementation = before
        joined_products.separate(model)
        disentangled.unpack(model)
    return fault


def collator(
    model: Any,
    tokenizer: Any,
    padding: str,
    max_length: int | None = None,
    device: torch.device = CPU,
    precision: str = "fp32",
    joined: bool = False,
) -> tuple[PackingCollator | PaddingCollator, str]:
    """Send a model to its device; the collator for the setting `padding`, and how rows and attention are, in words.

    `packed` prepares the model for packed rows. A model that cannot compute them gets padded rows, and the log says
    why. `max_length` tokens are the width of rows under `padding: max_length`. `joined`: in packed rows, queries, keys
    and values are one product, which predicts faster.
    """
    fault = _prepare(model, device, precision, joined) if padding == "packed" else ""
    if fault:
        log.warning(f"{fault}; rows are padded to the longest of their batch instead")
    model.to(device)
    how = _attention_of(model, device, precision)
    if padding == "packed" and not fault:
        return _packer(model, device), f"packed rows, {how}"
    if padding == "max_length":
        return PaddingCollator.of(tokenizer, max_length), f"padded rows, {how}"
    positions = getattr(model.config, "max_position_embeddings", 0) - first_position(model)
    few = (*range(8, positions, 8), positions) if device.type == "cpu" and positions > 0 else ()  # see `_packer`
    return PaddingCollator.of(tokenizer, None, few), f"padded rows, {how}"


def _prepare(model: Any, device: torch.device, precision: str, joined: bool = False) -> str:
    """Make the trials of packed rows, in the order that this module's docstring gives. Returns what `prepare` does."""
    before = model.config._attn_implementation
    fault = prepare(model, joined=joined)
    if fault and joined:
        fault = prepare(model)
    if fault or device.type == "cpu":
        return fault
    model.to(device)
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    if disentangled.is_packed(model):
        fault = disentangled.try_kernel(model, device, dtype)
        disentangled.unpack(model)
        return fault or prepare(model, precision)
    attention.try_varlen(device, dtype, _head_size(model))
    model.config._attn_implementation = before  # that of padded rows, with which the next trial compares
    fault = prepare(model, precision)
    if fault and attention.varlen_works:
        log.warning(f"{fault} in {precision} by varlen attention; attention is padded instead")
        attention.give_up_varlen()
        fault = prepare(model, precision)
    return fault


def _packer(model: Any, device: torch.device) -> PackingCollator:
    """The collator of a model's packed rows. For a CPU they have few lengths, since oneDNN keeps memory for each."""
    with_types = bool(inputs_of(model, ["token_type_ids"]))
    return PackingCollator(first_position(model), with_types, few_lengths=device.type == "cpu")


def _attention_of(model: Any, device: torch.device, precision: str) -> str:
    """The way attention is computed and its dropout in training, in words."""
    dropout = next((getattr(model.config, name) for name in ATTENTION_DROPOUT if hasattr(model.config, name)), 0.0)
    way = model.config._attn_implementation
    if disentangled.is_packed(model):
        way = "by turns" if device.type == "cpu" else "by flashdeberta"
    elif way == attention.NAME:
        way = attention.kernel(device, precision in devices.AUTOCAST, dropout)
        way = f"{way} ({attention.varlen_library(device)})" if way == "varlen" else way
    return f"attention {way}, attention dropout {dropout:g}"


def _head_size(model: Any) -> int:
    """Numbers that an attention head of a model computes with for a token."""
    config = model.config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def first_position(model: Any) -> int:
    """The position of a row's first token in the model's position embeddings: 2 in RoBERTa's family, else 0."""
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            return 0 if table.padding_idx is None else table.padding_idx + 1
    return 0


def model_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """The model's inputs in a batch: all but the labels and soft targets, which our own loss takes."""
    return {name: values for name, values in batch.items() if name not in (*POSITIONS, *SOFT_TARGETS)}


def window_logits(output: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Start logits, end logits and which places are tokens (bool), each of shape (windows, longest window)."""
    if "window_places" not in batch:
        return output.start_logits, output.end_logits, batch["attention_mask"].bool()
    places = batch["window_places"]
    # not [places], whose gradient sorts all places on a GPU
    start, end = (
        logits.squeeze(0).index_select(0, places.flatten()).view_as(places)
        for logits in (output.start_logits, output.end_logits)
    )
    return start, end, batch["window_tokens"].bool()


def budgets(training: int, validation: int, step: int = 128) -> tuple[int, ...]:
    """Row sizes in tokens, multiples of `step`, that hold the largest batch of training and that of validation.

    Code is compiled once for each size. Validation shares training's size where that is large enough.
    """
    sizes = [-(-tokens // step) * step for tokens in (training, max(training, validation))]
    return tuple(sorted(set(sizes)))


def widths(longest: int, step: int = 64, most: int = 6) -> tuple[int, ...]:
    """At most so many widths of padded rows in tokens: multiples of `step`, and the longest window's own length."""
    step *= -(-longest // (most * step))
    return (*range(step, longest, step), longest)


def _probe(model: Any) -> TokenRows:
    """Windows of PROBED tokens, shorter where the model's positions end, without padding tokens."""
    longest = min(max(PROBED), getattr(model.config, "max_position_embeddings", max(PROBED)) - first_position(model))
    lengths = np.minimum(PROBED, longest)
    ids = 3 + np.arange(lengths.sum()) % max(1, min(model.config.vocab_size, 1_000) - 3)
    ids = np.where(ids == (model.config.pad_token_id or 0), 1, ids).astype(np.int32)
    lists = {"input_ids": ids}
    if inputs_of(model, ["token_type_ids"]):
        lists["token_type_ids"] = np.zeros(len(ids), np.int32)
    return TokenRows(lists, {}, lengths.astype(np.int64))


def probe_batch(model: Any) -> dict[str, Any]:
    """The windows of the trial in one row, on the model's device, for a model that `prepare` has prepared."""
    return _on_device(_packer(model, model.device)(_probe(model)), model)


def _on_device(batch: dict[str, Any], model: Any) -> dict[str, Any]:
    return {name: values.to(model.device) if hasattr(values, "to") else values for name, values in batch.items()}


def _logits(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    batch = _on_device(batch, model)
    start, end, _ = window_logits(model(**model_inputs(batch)), batch)
    return torch.stack([start, end]).float().cpu()
