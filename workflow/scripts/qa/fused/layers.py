"""Embeddings and layers in the style of BERT, forward and backward by hand-written kernels.

cuBLAS computes the matrix products, `kernels` all else. Numbers have the precision of autocast to bf16: products
and activations in bf16, weights, their gradients, sums and the residual stream in fp32. Two things
are rounded to bf16 that autocast has in fp32: the normalised rows that a norm keeps, and the gradient of that stream.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

LOG2_E = 1.4426950408889634
TILES = {"forward": (64, 64, 2), "backward": (64, 64, 1)}  # queries, keys, pipeline stages: the fastest on an H100
ROWS_OF_NORM, ROWS_OF_SUM, COLUMNS_OF_SUM, SPLITS = 4, 32, 128, 16  # likewise


class Weights(NamedTuple):
    """The parameters of one layer; the first twelve enter matrix products."""

    query: Tensor
    key: Tensor
    value: Tensor
    query_bias: Tensor
    key_bias: Tensor
    value_bias: Tensor
    out: Tensor
    up: Tensor
    down: Tensor
    out_bias: Tensor
    up_bias: Tensor
    down_bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    last_norm: Tensor
    last_norm_bias: Tensor


PRODUCTS = 12  # of the fields: those that products read in half precision


@dataclass(frozen=True)
class Norms:
    """Options of the norms and of the dropout before them. `seed` is an int64 tensor (1,) on the device."""

    seed: Tensor
    dropout: float
    epsilon: float


@dataclass(frozen=True)
class Shape:
    """Values shared by all layers for one batch. `bounds` are the windows', int32; `longest` is in tokens."""

    heads: int
    bounds: Tensor
    longest: int
    half: torch.dtype
    norms: Norms


def kernels() -> Any:
    """The module of the kernels. Raises ImportError where Triton is not installed, as on a CPU."""
    from qa.fused import kernels

    return kernels


class Layer:
    """The passes of one layer. `keep` has what the backward pass needs."""

    def __init__(self, number: int, weights: Weights, shape: Shape):
        self.kernels = kernels()
        self.number, self.weights, self.shape = number, weights, shape
        self.width = weights.out.shape[0]
        self.keep: dict[str, Tensor] = {}
        self.half = self._halves()

    def _halves(self) -> dict[str, Tensor]:
        """Half-precision copies for the products, with queries, keys and values joined."""
        width, parts = self.width, self.weights
        like = {"dtype": self.shape.half, "device": parts.query.device}
        joined, bias = torch.empty(3 * width, width, **like), torch.empty(3 * width, **like)
        names = ("out", "up", "down", "out_bias", "up_bias", "down_bias")
        copies = {name: torch.empty_like(getattr(parts, name), dtype=self.shape.half) for name in names}
        torch._foreach_copy_([*joined.split(width), *bias.split(width), *copies.values()], list(parts[:PRODUCTS]))
        return copies | {"joined": joined, "joined_bias": bias}

    def forward(self, residual: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's output in fp32 and in half precision, (tokens, width), from its input in both."""
        keep, half, weights = self.keep, self.half, self.weights
        keep["input"] = hidden
        keep["qkv"] = torch.addmm(half["joined_bias"], hidden, half["joined"].t())
        self._attend()
        branch = torch.addmm(half["out_bias"], keep["attended"], half["out"].t())
        residual, hidden = self._norm("norm", branch, residual, weights.norm, weights.norm_bias)
        keep["middle"] = hidden
        keep["up"] = torch.addmm(half["up_bias"], hidden, half["up"].t())
        keep["activated"] = torch.empty_like(keep["up"])
        size = keep["up"].numel()
        self.kernels.gelu_forward[(-(-size // 2048),)](keep["up"], keep["activated"], size, BLOCK=2048, num_warps=8)
        branch = torch.addmm(half["down_bias"], keep["activated"], half["down"].t())
        return self._norm("last_norm", branch, residual, weights.last_norm, weights.last_norm_bias)

    def backward(self, gradient: Tensor, branch: Tensor | None) -> tuple[Tensor, Tensor, Weights]:
        """Gradients of the layer's input, by the residual stream and by the branch, and those of its weights."""
        keep, half = self.keep, self.half
        gradient, upward, last_norm = self._norm_backward("last_norm", gradient, branch, self.weights.last_norm)
        inner, down = upward @ half["down"], _summed(upward, keep["activated"])
        inner, up_bias = self._column_sums(inner, keep["up"])
        branch, up = inner @ half["up"], _summed(inner, keep["middle"])
        gradient, upward, norm = self._norm_backward("norm", gradient, branch, self.weights.norm)
        attended, out = upward @ half["out"], _summed(upward, keep["attended"])
        joined = self._attend_backward(attended)
        _, joined_bias = self._column_sums(joined, None)
        branch, of_joined = joined @ half["joined"], _summed(joined, keep["input"])
        weights = Weights(
            *of_joined.split(self.width),
            *joined_bias.split(self.width),
            *(out, up, down, norm[2], up_bias, last_norm[2]),
            *(norm[0], norm[1], last_norm[0], last_norm[1]),
        )
        return gradient, branch, weights

    def _norm(self, name: str, branch: Tensor, residual: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        tokens, width = branch.shape
        y, y_half, xhat = torch.empty_like(residual), torch.empty_like(branch), torch.empty_like(branch)
        rstd = torch.empty(tokens, device=branch.device)
        self.kernels.norm_forward[(-(-tokens // ROWS_OF_NORM),)](
            *(branch, residual, gamma, beta, y, y_half, xhat, rstd, self.shape.norms.seed, self._site(name)),
            *(tokens, self.shape.norms.epsilon),
            **self._norm_options(width),
        )
        self.keep |= {f"{name}_xhat": xhat, f"{name}_rstd": rstd}
        return y, y_half

    def _norm_backward(
        self, name: str, gradient: Tensor, branch: Tensor | None, gamma: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the residual and of the branch that the norm added, and (3, width): gamma, beta, bias."""
        xhat, rstd = self.keep[f"{name}_xhat"], self.keep[f"{name}_rstd"]
        (tokens, width), programs = xhat.shape, _programs(xhat.device)
        residual = torch.empty_like(xhat)
        upward = torch.empty_like(xhat) if self.shape.norms.dropout else residual
        parts = torch.empty(programs, 3, width, device=xhat.device)
        self.kernels.norm_backward[(programs,)](
            *(gradient, gradient if branch is None else branch, xhat, rstd, gamma, residual, upward, parts),
            *(self.shape.norms.seed, self._site(name), tokens, -(-tokens // ROWS_OF_NORM)),
            TWO=branch is not None,
            **self._norm_options(width),
        )
        return residual, upward, _added(parts)

    def _norm_options(self, width: int) -> dict[str, Any]:
        return {**_row(width, self.shape.norms.dropout), "ROWS": ROWS_OF_NORM, "num_warps": 8}

    def _site(self, name: str) -> int:
        return 2 * self.number + (name == "last_norm")

    def _column_sums(self, gradient: Tensor, activated_from: Tensor | None) -> tuple[Tensor, Tensor]:
        """A product's output gradient and its bias's. `activated_from`: GELU's input, through which it goes first."""
        (tokens, width), x = gradient.shape, activated_from
        rows = -(-tokens // (SPLITS * ROWS_OF_SUM)) * ROWS_OF_SUM
        parts = torch.empty(SPLITS, width, device=gradient.device)
        onward = gradient if x is None else torch.empty_like(x)
        self.kernels.column_sums[(-(-width // COLUMNS_OF_SUM), SPLITS)](
            *(gradient, gradient if x is None else x, onward, parts, tokens, width, rows),
            ROWS=ROWS_OF_SUM,
            COLS=COLUMNS_OF_SUM,
            GELU=x is not None,
            num_warps=8,
        )
        return onward, _added(parts)

    def _attend(self) -> None:
        keep, (queries, keys, stages) = self.keep, TILES["forward"]
        tokens = len(keep["qkv"])
        keep["attended"] = torch.empty(tokens, self.width, dtype=self.shape.half, device=keep["qkv"].device)
        keep["lse"] = torch.empty(self.shape.heads, tokens, device=keep["qkv"].device)
        self.kernels.attention_forward[self._grid(queries)](
            *(keep["qkv"], keep["attended"], keep["lse"], self.shape.bounds, tokens, self._scale() * LOG2_E),
            **self._tile(queries, keys, stages),
        )

    def _attend_backward(self, gradient: Tensor) -> Tensor:
        keep, (queries, keys, stages) = self.keep, TILES["backward"]
        joined, delta = torch.empty_like(keep["qkv"]), torch.empty_like(keep["lse"])
        common = (self.shape.bounds, len(joined), self._scale() * LOG2_E, self._scale())
        options = self._tile(queries, keys, stages)
        self.kernels.attention_backward_queries[self._grid(queries)](
            keep["qkv"], keep["attended"], gradient, keep["lse"], delta, joined, *common, **options
        )
        self.kernels.attention_backward_keys[self._grid(keys)](
            keep["qkv"], gradient, keep["lse"], delta, joined, *common, **options
        )
        return joined

    def _grid(self, rows: int) -> tuple[int, int, int]:
        return -(-self.shape.longest // rows), self.shape.heads, len(self.shape.bounds) - 1

    def _tile(self, queries: int, keys: int, stages: int) -> dict[str, int]:
        sizes = {"H": self.width, "D": self.width // self.shape.heads, "QUERIES": queries, "KEYS": keys}
        return {**sizes, "num_warps": 4, "num_stages": stages}

    def _scale(self) -> float:
        return (self.width // self.shape.heads) ** -0.5


class Encode(torch.autograd.Function):
    """All layers: (tokens, width) in fp32 to the same. Takes the weights of each layer one after the other."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, shape: Shape, *weights: Tensor) -> Tensor:
        size = len(Weights._fields)
        ctx.layers = [
            Layer(first // size, Weights(*weights[first : first + size]), shape)
            for first in range(0, len(weights), size)
        ]
        half = hidden.to(shape.half)
        for layer in ctx.layers:
            hidden, half = layer.forward(hidden, half)
        return hidden

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        branch, found = None, []
        gradient = gradient.contiguous()
        while ctx.layers:  # each layer's activations go as soon as they are used
            gradient, branch, weights = ctx.layers.pop().backward(gradient, branch)
            found = [*weights, *found]
        return gradient.float() + branch, None, *found


class Embed(torch.autograd.Function):
    """Embeddings of a packed row: normalised sums of a word, a position and one of at most two types.

    `ids`, `places` and `types` are int64 (tokens,); `paddings` the word and the position that get no gradient, or -1.
    Returns fp32 (tokens, width).
    """

    @staticmethod
    def forward(
        ctx: Any, rows: tuple[Tensor, Tensor, Tensor], paddings: tuple[int, int], norms: Norms, *weights: Tensor
    ) -> Tensor:
        tokens, width = len(rows[0]), weights[0].shape[1]
        y, xhat = (torch.empty(tokens, width, device=weights[0].device) for _ in range(2))
        rstd = torch.empty(tokens, device=y.device)
        kernels().embed_forward[(tokens,)](
            *rows, *weights, y, xhat, rstd, norms.seed, norms.epsilon, **_row(width, norms.dropout), num_warps=4
        )
        ctx.kept = rows, paddings, norms, weights, xhat, rstd
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        rows, paddings, norms, (words, positions, kinds, gamma, _), xhat, rstd = ctx.kept
        (tokens, width), programs = xhat.shape, _programs(xhat.device)
        of_words, of_positions = torch.zeros_like(words), torch.zeros_like(positions)
        parts = torch.empty(programs, 4, width, device=xhat.device)
        kernels().embed_backward[(programs,)](
            *(*rows, gradient.contiguous(), xhat, rstd, gamma, of_words, of_positions, parts, norms.seed, tokens),
            *paddings,
            **_row(width, norms.dropout),
            num_warps=4,
        )
        of_gamma, of_beta, *of_kinds = _added(parts)
        return None, None, None, of_words, of_positions, torch.stack(of_kinds)[: len(kinds)], of_gamma, of_beta


def _row(width: int, dropout: float) -> dict[str, Any]:
    """The arguments of a kernel that handles whole rows."""
    block = 1 << (width - 1).bit_length()
    return {"H": width, "BLOCK": block, "P": dropout, "THRESHOLD": int(dropout * 2**24)}


def _added(parts: Tensor) -> Tensor:
    """The sum of partial sums in fp32: (programs, ...) to (...)."""
    total = torch.empty(parts.shape[1:], device=parts.device)
    width = total.numel()
    kernels().add_parts[(-(-width // 64),)](parts, total, len(parts), width, BLOCK=64, STEP=32, num_warps=4)
    return total


def _summed(gradient: Tensor, inputs: Tensor) -> Tensor:
    """A weight's gradient in fp32: (tokens, out) and (tokens, in) to (out, in)."""
    if gradient.is_cuda:
        return torch.mm(gradient.t(), inputs, out_dtype=torch.float32)
    return gradient.t().float() @ inputs.float()


def _programs(device: torch.device) -> int:
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
