"""Attention over packed rows: windows laid end to end, none of which sees another."""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "packed_windows"
HALF = (torch.bfloat16, torch.float16)
varlen_works = False  # until it was tried on this machine's GPU

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None


def kernel(device: torch.device, half: bool, dropout: float) -> str:
    """Which way of computing is taken: `varlen`, `padded` or `by turns`.

    `varlen`: one flash attention kernel over all windows, on a GPU, in half precision, without attention dropout.
    `padded`: windows side by side, padded for the attention alone, on a GPU where the first cannot be. Its memory and
    work grow with the windows' longest, not with the square of the whole row as a block mask's would.
    `by turns`: one window after the other, without any padding, on a CPU, where a call costs little.
    """
    if device.type == "cpu":
        return "by turns"
    return "varlen" if varlen_works and half and not dropout else "padded"


def try_varlen(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> bool:
    """Find out, before anything is compiled, whether the varlen kernel works here: not on every GPU, nor every torch.

    Its results and gradients for two short windows and an empty one, with and without a sliding window, must be those
    of the padded way.
    """
    global varlen_works
    varlen_works = False
    if varlen_attn is None or device.type != "cuda":
        return False
    try:
        varlen_works = all(_agree(device, dtype, sliding_window) for sliding_window in (None, 17))
    except (RuntimeError, TypeError, ValueError):
        return False
    return varlen_works


def _agree(device: torch.device, dtype: torch.dtype, sliding_window: int | None) -> bool:
    lengths = torch.tensor([3, 0, 70])
    bounds = torch.tensor([0, 3, 3, 73], dtype=torch.int32)
    tokens = torch.arange(70) < lengths[:, None]
    places = torch.minimum(bounds[:-1, None] + torch.arange(70), torch.tensor(72))
    bounds, tokens, places = (values.to(device) for values in (bounds, tokens.long(), places))
    results = []
    for packed in (True, False):
        draw = torch.Generator().manual_seed(0)
        parts = [torch.randn(73, 2, 64, generator=draw).to(device, dtype).requires_grad_() for _ in range(3)]
        if packed:
            found = _varlen(*parts, bounds, 70, 0.125, sliding_window)
        else:
            found = _padded(*parts, places, tokens, 0.125, 0.0, sliding_window)
        found.float().square().sum().backward()
        results.append(torch.stack([found.detach(), *(part.grad for part in parts)]).float())
    return torch.allclose(*results, rtol=0.05, atol=0.05)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    window_bounds: torch.Tensor,
    longest_window: int,
    window_places: torch.Tensor,
    window_tokens: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function for transformers' AttentionInterface; for the batch see `collators.PackingCollator`.

    `query`, `key` and `value` have the shape (1, heads, tokens, size), any float type; so many keys and values as
    queries. `sliding_window` lets a token see those less than so many places away. Returns (1, tokens, heads, size).
    """
    parts = [part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value)]  # (tokens, heads, size)
    way = kernel(value.device, value.dtype in HALF, dropout)
    if way == "by turns":
        found = _by_turns(*parts, window_bounds, scaling, dropout, sliding_window)
    elif way == "padded":
        found = _padded(*parts, window_places, window_tokens, scaling, dropout, sliding_window)
    else:
        found = _varlen(*parts, window_bounds, longest_window, scaling, sliding_window)
    return found[None], None


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    reach = -1 if sliding_window is None else sliding_window - 1
    options = {"scale": scaling, "window_size": (reach, reach)}
    return varlen_attn(query, key, value, bounds, bounds, longest, longest, **options)


def _by_turns(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
) -> torch.Tensor:
    """Each window by itself. In fp32: the CPU's half precision kernels are the slower ones backwards."""
    dtype, lengths = value.dtype, bounds.diff().tolist()
    if torch.is_grad_enabled():
        query, key, value = query.float(), key.float(), value.float()
    found = []
    for parts in zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True):
        near = None
        if sliding_window is not None and len(parts[0]) > sliding_window:
            near = _near(len(parts[0]), sliding_window, value.device)
        parts = (part.transpose(0, 1)[None] for part in parts)
        seen = scaled_dot_product_attention(*parts, attn_mask=near, dropout_p=dropout, scale=scaling)
        found.append(seen[0].transpose(0, 1))
    return torch.cat(found).to(dtype)


def _padded(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    places: torch.Tensor,
    tokens: torch.Tensor,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
) -> torch.Tensor:
    """Windows side by side; `places` and `tokens` of shape (windows, longest) say where and which its tokens are."""
    real = tokens.bool()
    mask = real[:, None, None, :]
    if sliding_window is not None:
        mask = mask & _near(tokens.shape[1], sliding_window, tokens.device)
    mask = mask | torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)  # padding sees itself: no NaN
    parts = (part[places].transpose(1, 2) for part in (query, key, value))
    seen = scaled_dot_product_attention(*parts, attn_mask=mask, dropout_p=dropout, scale=scaling).transpose(1, 2)
    # Back by adding at each token's place: padding adds nothing, wherever its place points.
    seen = seen.masked_fill(~real[:, :, None, None], 0.0)
    return torch.zeros_like(query).index_add(0, places.flatten(), seen.flatten(0, 1).to(query.dtype))


def _near(length: int, sliding_window: int, device: torch.device) -> torch.Tensor:
    places = torch.arange(length, device=device)
    return (places[:, None] - places).abs() < sliding_window
