"""Models in the style of BERT that train by the kernels of `layers`, for the speed of GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from qa.fused.layers import Embed, Encode, Norms, Shape, kernels

HEAD_SIZES = (16, 32, 64, 128)  # that the kernels' tiles can have
LARGEST = 2**31  # numbers of a tensor that the kernels can index


def fuse(model: Any, half: torch.dtype = torch.bfloat16) -> str:
    """Let a model train by the kernels from now on. Returns "", or the reason why it cannot.

    In evaluation mode, and over rows that are not packed, it computes as before. Its weights stay where they are. Only
    the names and classes of its parts are looked at here, so try it afterwards. `half` is the dtype of products.
    """
    encoder = next((part for part in model.modules() if _is_encoder(part)), None)
    if encoder is None:
        return f"{type(model).__name__} has no encoder with BERT's layers"
    attention = encoder.layer[0].attention.self
    size = attention.query.out_features // encoder.config.num_attention_heads
    if size not in HEAD_SIZES:
        return f"its attention heads have {size} numbers, the kernels' {', '.join(map(str, HEAD_SIZES))}"
    if attention.dropout.p:
        return "it drops out attention weights"
    try:
        kernels()
    except ImportError as error:
        return f"Triton is not there ({error})"
    _replace(encoder, _encode, half)
    for part in model.modules():
        if _is_embedding(part):
            _replace(part, _embed, half)
    return ""


def _replace(part: Any, forward: Any, half: torch.dtype) -> None:
    part.unfused, part.half, part.in_trial = part.forward, half, False
    part.forward = MethodType(forward, part)


def undo(model: Any) -> None:
    """Undo `fuse`."""
    for part in _fused(model):
        del part.forward, part.unfused, part.half, part.in_trial


@contextmanager
def trial(model: Any) -> Iterator[None]:
    """Let a fused model compute by the kernels in evaluation mode too, which is without dropout."""
    for part in _fused(model):
        part.in_trial = True
    try:
        yield
    finally:
        for part in _fused(model):
            part.in_trial = False


def _fused(model: Any) -> list[Any]:
    return [part for part in model.modules() if hasattr(part, "unfused")]


def _encode(encoder: Any, hidden_states: Tensor, *arguments: Any, **options: Any) -> Any:
    """In the place of an encoder's `forward`."""
    first = encoder.layer[0]
    largest = hidden_states.shape[1] * max(first.intermediate.dense.out_features, 3 * hidden_states.shape[2])
    if "window_bounds" not in options or not (encoder.training or encoder.in_trial) or largest >= LARGEST:
        return encoder.unfused(hidden_states, *arguments, **options)
    shape = Shape(
        heads=encoder.config.num_attention_heads,
        bounds=options["window_bounds"],
        longest=options["longest_window"],
        half=encoder.half,
        norms=_norms(first.output, hidden_states.device),
    )
    output = Encode.apply(hidden_states[0].float(), shape, *_layer_weights(encoder))
    return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=output[None])


def _embed(
    embeddings: Any,
    input_ids: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """In the place of the embeddings' `forward`."""
    given = input_ids is not None and position_ids is not None and len(input_ids) == 1
    if not given or not (embeddings.training or embeddings.in_trial):
        return embeddings.unfused(
            input_ids=input_ids, token_type_ids=token_type_ids, position_ids=position_ids, **options
        )
    types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    tables = (embeddings.word_embeddings, embeddings.position_embeddings)
    return Embed.apply(
        (input_ids[0], position_ids[0], types[0]),
        tuple(-1 if table.padding_idx is None else table.padding_idx for table in tables),
        _norms(embeddings, input_ids.device),
        *(table.weight for table in (*tables, embeddings.token_type_embeddings)),
        embeddings.LayerNorm.weight,
        embeddings.LayerNorm.bias,
    )[None]


def _norms(part: Any, device: torch.device) -> Norms:
    """Of a part with a norm and its dropout. The seed is drawn on the device, so that a CUDA graph draws new ones."""
    seed = torch.randint(2**31 - 1, (1,), device=device)
    return Norms(seed, part.dropout.p if part.training else 0.0, part.LayerNorm.eps)


def _layer_weights(encoder: Any) -> Iterator[Tensor]:
    """The weights of all layers, those of each in the order of `Weights`."""
    for layer in encoder.layer:
        own, out, up, down = layer.attention.self, layer.attention.output, layer.intermediate, layer.output
        for parts in ((own.query, own.key, own.value), (out.dense, up.dense, down.dense)):
            yield from (part.weight for part in parts)
            yield from (part.bias for part in parts)
        for norm in (out.LayerNorm, down.LayerNorm):
            yield from (norm.weight, norm.bias)


def _is_encoder(part: Any) -> bool:
    layers = getattr(part, "layer", None)
    return isinstance(layers, nn.ModuleList) and len(layers) > 0 and all(map(_is_layer, layers))


def _is_layer(layer: Any) -> bool:
    """Whether a layer's parts have the names, classes and activation of BERT's."""
    try:
        own, out, up, down = layer.attention.self, layer.attention.output, layer.intermediate, layer.output
        linear = (own.query, own.key, own.value, out.dense, up.dense, down.dense)
        norms, drops = (out.LayerNorm, down.LayerNorm), (out.dropout.p, down.dropout.p)
        tried = torch.tensor([-1.0, 0.5], device=own.query.weight.device)
        gelu = torch.equal(up.intermediate_act_fn(tried), nn.functional.gelu(tried))
    except AttributeError:
        return False
    return (
        all(type(part) is nn.Linear and part.bias is not None for part in linear)
        and all(type(norm) is nn.LayerNorm for norm in norms)
        and norms[0].eps == norms[1].eps
        and drops[0] == drops[1]
        and own.query.weight.shape == own.key.weight.shape == out.dense.weight.shape
        and gelu
    )


def _is_embedding(part: Any) -> bool:
    """Whether a part sums words, positions and at most two types as BERT's embeddings do."""
    names = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    tables = [getattr(part, name, None) for name in names]
    return (
        all(type(table) is nn.Embedding for table in tables)
        and type(getattr(part, "LayerNorm", None)) is nn.LayerNorm
        and isinstance(getattr(part, "dropout", None), nn.Dropout)
        and tables[2].num_embeddings <= 2
        and tables[2].padding_idx is None
    )
