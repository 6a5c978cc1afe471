"""Attention over packed rows: windows that lie end to end and do not see each other."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import dropout as dropped
from torch.nn.functional import scaled_dot_product_attention

NAME = "packed_windows"
HALF = (torch.bfloat16, torch.float16)
varlen_works = False  # until `try_varlen` has tried it on this machine's GPU; changed in this module only


def kernel(device: torch.device, half: bool, dropout: float) -> str:
    """The way to compute attention: `varlen`, `padded` or `by turns`.

    `varlen`: one flash attention kernel over all windows; on a GPU, in half precision, without attention dropout.
    `padded`: windows side by side, padded for the attention only; on a GPU without the first way. Memory and work grow
    with the longest window; with a block mask they would grow with the square of the whole row.
    `by turns`: one window after the other, without padding; on a CPU, where a call costs little.
    """
    if device.type == "cpu":
        return "by turns"
    return "varlen" if varlen_works and half and not dropout else "padded"


def try_varlen(device: torch.device, dtype: torch.dtype = torch.bfloat16, size: int = 64) -> bool:
    """Try the varlen kernel before anything is compiled: not every GPU, torch or head size has it.

    It must give the results and gradients of the padded way with heads of this `size`, for two short windows and an
    empty one, with and without a sliding window.
    """
    global varlen_works
    varlen_works = False
    if device.type != "cuda":
        return False
    try:
        varlen_works = all(_agree(device, dtype, size, sliding_window) for sliding_window in (None, 17))
    except (RuntimeError, TypeError, ValueError):
        return False
    return varlen_works


def give_up_varlen() -> None:
    """Compute attention without the varlen kernel from now on, because it fails with the model."""
    global varlen_works
    varlen_works = False


def varlen_library(device: torch.device) -> str:
    """The library whose kernel varlen_attn calls on a GPU: torch chooses, and another version may choose otherwise."""
    from torch.nn.attention import varlen

    choose = getattr(varlen, "_should_use_cudnn", None)  # not public, and not in every torch
    return "cuDNN" if choose and choose(device.index or 0) else "flash attention"


def _agree(device: torch.device, dtype: torch.dtype, size: int, sliding_window: int | None) -> bool:
    """Whether both ways agree on windows of 3, 0 and 70 tokens."""
    lengths = torch.tensor([3, 0, 70])
    bounds = torch.tensor([0, 3, 3, 73], dtype=torch.int32)
    tokens = torch.arange(70) < lengths[:, None]
    places = torch.minimum(bounds[:-1, None] + torch.arange(70), torch.tensor(72))
    bounds, tokens, places = (values.to(device) for values in (bounds, tokens.long(), places))
    results = []
    for way in ("varlen", "padded"):
        generator = torch.Generator().manual_seed(0)
        inputs = [torch.randn(73, 2, size, generator=generator).to(device, dtype).requires_grad_() for _ in range(3)]
        if way == "varlen":
            output = _varlen(inputs, bounds, 70, None, sliding_window)
        else:
            output = _padded(inputs, places, tokens, None, 0.0, sliding_window)
        output.float().square().sum().backward()
        results.append(torch.stack([output.detach(), *(tensor.grad for tensor in inputs)]).float())
    return torch.allclose(*results, rtol=0.05, atol=0.05)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    window_bounds: Tensor,
    longest_window: int,
    window_places: Tensor,
    window_tokens: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """An attention function for transformers' AttentionInterface; see `collators.PackingCollator` for the batch.

    `query`, `key` and `value` have the shape (1, heads, tokens, size) and any float type. With `sliding_window`, a
    token sees only tokens that are fewer places away. Returns attention of the shape (1, tokens, heads, size).
    """
    inputs = [
        tensor.squeeze(0).transpose(0, 1).to(value.dtype) for tensor in (query, key, value)
    ]  # (tokens, heads, size)
    way = kernel(value.device, value.dtype in HALF, dropout)
    if way == "by turns":
        # up to the fillings
        output = _by_turns(inputs, window_bounds[: len(window_places) + 1], scaling, dropout, sliding_window)
    elif way == "padded":
        output = _padded(inputs, window_places, window_tokens, scaling, dropout, sliding_window)
    else:
        output = _varlen(inputs, window_bounds, longest_window, scaling, sliding_window)
    return output[None], None


# `inputs` of the three ways: queries, keys and values, each of shape (tokens, heads, size)
def _varlen(
    inputs: list[Tensor], bounds: Tensor, longest: int, scaling: float | None, sliding_window: int | None
) -> Tensor:
    reach = -1 if sliding_window is None else sliding_window - 1
    options = {"scale": scaling, "window_size": (reach, reach)}
    return varlen_attn(*inputs, bounds, bounds, longest, longest, **options)


def _by_turns(
    inputs: list[Tensor], bounds: Tensor, scaling: float | None, dropout: float, sliding_window: int | None
) -> Tensor:
    """Attention window by window: SDPA, but plain products to train in half precision, in half of SDPA's time.

    It is 0 after the last window.
    """
    lengths = bounds.diff().tolist()
    rest = len(inputs[0]) - sum(lengths)
    if torch.is_grad_enabled() and inputs[0].dtype in HALF:
        with torch.autocast("cpu", enabled=False):  # softmax sums in fp32 anyway; autocast would copy to fp32
            return _Products.apply(*inputs, [*lengths, rest], scaling, dropout, sliding_window)
    outputs = []
    for window in _windows([*lengths, rest], *inputs):
        mask = _mask(len(window[0]), sliding_window)
        query, key, value = (tensor.transpose(0, 1)[None] for tensor in window)
        output = scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
        outputs.append(output[0].transpose(0, 1))
    return torch.cat([*outputs, outputs[0].new_zeros(rest, *outputs[0].shape[1:])])


class _Products(torch.autograd.Function):
    """Attention window by window, by products whose parts are kept for the gradients. The last of `lengths` is filling.

    A window is laid out once as oneDNN's products want it. Autograd would do so for each product, and for each window
    fill gradients of the whole row with zeros.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: list[int],
        scaling: float | None,
        dropout: float,
        sliding_window: int | None,
    ) -> Tensor:
        ctx.lengths, ctx.scale = lengths, scaling or query.shape[-1] ** -0.5
        output, kept = torch.zeros_like(value), []
        for place, *window in _windows(lengths, output, query * ctx.scale, key, value):
            query, key, value = (tensor.transpose(0, 1).contiguous() for tensor in window)
            scores = query @ key.mT
            if (mask := _mask(len(place), sliding_window)) is not None:
                scores.masked_fill_(~mask, -torch.inf)
            weights = scores.softmax(-1)
            factors = dropped(torch.ones_like(weights), dropout) if dropout else None
            place.copy_(_times(weights, factors).matmul(value).transpose(0, 1))
            kept += [query, key, value, weights, factors]
        ctx.save_for_backward(*kept)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found, kept = [torch.zeros_like(gradient) for _ in range(3)], iter(ctx.saved_tensors)
        for of_output, *places in _windows(ctx.lengths, gradient, *found):
            query, key, value, weights, factors = (next(kept) for _ in range(5))
            of_output = of_output.transpose(0, 1).contiguous()
            of_weights = _times(of_output @ value.mT, factors)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_inputs = (of_scores @ key, of_scores.mT @ query, _times(weights, factors).mT @ of_output)
            for place, of_input in zip(places, of_inputs, strict=True):
                place.copy_(of_input.transpose(0, 1))
        found[0] *= ctx.scale
        return *found, None, None, None, None


def _windows(lengths: list[int], *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The parts of tensors, so long along the row, without the last one."""
    return zip(*(tensor.split(lengths)[:-1] for tensor in tensors), strict=True)


def _times(values: Tensor, factors: Tensor | None) -> Tensor:
    return values if factors is None else values * factors


def _mask(length: int, sliding_window: int | None) -> Tensor | None:
    """Which tokens of a window on a CPU see each other, if not all do."""
    if sliding_window is None or length <= sliding_window:
        return None
    return _near(length, sliding_window, torch.device("cpu"))


def _padded(
    inputs: list[Tensor],
    places: Tensor,
    tokens: Tensor,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
) -> Tensor:
    """Attention over windows side by side, padded to the longest.

    Of shape (windows, longest): `places`, each token's place in the packed row, and `tokens`, 0 for padding.
    """
    real = tokens.bool()
    mask = real[:, None, None, :]
    if sliding_window is not None:
        mask = mask & _near(tokens.shape[1], sliding_window, tokens.device)
    mask = mask | torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)  # padding sees itself: no NaN
    windows = (tensor[places].transpose(1, 2) for tensor in inputs)
    output = scaled_dot_product_attention(*windows, attn_mask=mask, dropout_p=dropout, scale=scaling).transpose(1, 2)
    # add each token's output at its place; padding adds 0, wherever its place is
    output = output.masked_fill(~real[:, :, None, None], 0.0)
    return torch.zeros_like(inputs[0]).index_add(0, places.flatten(), output.flatten(0, 1).to(inputs[0].dtype))


def _near(length: int, sliding_window: int, device: torch.device) -> Tensor:
    """Which tokens see each other through a sliding window: bool of shape (length, length)."""
    places = torch.arange(length, device=device)
    return (places[:, None] - places).abs() < sliding_window
