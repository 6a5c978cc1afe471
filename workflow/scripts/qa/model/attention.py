"""Attention over packed rows: windows that lie end to end and do not see each other."""

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
        output = _by_turns(inputs, window_bounds, scaling, dropout, sliding_window)
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
    """Attention window by window: SDPA, but two plain products to train in half precision, in half of SDPA's time."""
    products, lengths = torch.is_grad_enabled() and inputs[0].dtype in HALF, bounds.diff().tolist()
    attend = _products if products else scaled_dot_product_attention
    outputs = []
    for window in zip(*(tensor.split(lengths) for tensor in inputs), strict=True):
        tokens, mask = len(window[0]), None
        if sliding_window is not None and tokens > sliding_window:
            mask = _near(tokens, sliding_window, bounds.device)
        output = attend(
            *(tensor.transpose(0, 1)[None] for tensor in window), attn_mask=mask, dropout_p=dropout, scale=scaling
        )
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


def _products(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_p: float, scale: float | None
) -> Tensor:
    """What scaled_dot_product_attention computes. All tensors keep the type of `query`."""
    scores = (query * (scale or query.shape[-1] ** -0.5)) @ key.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    with torch.autocast(query.device.type, enabled=False):  # softmax sums in fp32 anyway; autocast would copy to fp32
        return dropped(scores.softmax(-1), dropout_p) @ value


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
