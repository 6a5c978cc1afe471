"""Layers that compute faster on a CPU than torch's own, whose place they take.

A fused linear layer is product, bias and GELU in one call of oneDNN, in bf16: prediction takes a fifth less time.
torch.compile uses the same operator, but needs half a minute to compile. The operator has no gradient, and it is not
public: where a torch or a processor has none, layers stay as they are.

Dropout draws 16 random bits for each number. torch draws a Bernoulli number, by one thread, which is a tenth of a
packed training step.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Dropout, Identity, Linear
from torch.nn.functional import gelu, linear

ROUNDING = 0.02  # of numbers about 1 in bf16
VALUES = 2**16  # of the bits that dropout draws
LEAST = torch.iinfo(torch.int64).min


class _FastDropout(Dropout):
    """Drops a number if its 16 random bits are among the least. `p` is rounded to 1/65,536."""

    def forward(self, inputs: Tensor) -> Tensor:
        dropped = round(self.p * VALUES)
        if not self.training or not dropped:
            return inputs
        if dropped == VALUES:
            return inputs * 0
        drawn = torch.empty(-(-inputs.numel() // 4), dtype=torch.int64).random_(LEAST, None).view(torch.int16)
        kept = drawn[: inputs.numel()].view(inputs.shape) >= dropped - VALUES // 2
        return inputs * (kept.to(inputs.dtype) * (VALUES / (VALUES - dropped)))


def replace_dropout(model: Any) -> None:
    """Let a model that trains on a CPU draw its dropout so."""
    for module in model.modules():
        if type(module) is Dropout:
            module.__class__ = _FastDropout


class _FusedLinear(Linear):
    """A linear layer whose call computes `activation` too, `gelu` or `none`."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            output = linear(inputs, self.weight, self.bias)
            return gelu(output) if self.activation == "gelu" else output
        return _product(inputs.to(torch.bfloat16), *self.half, self.activation)


def fuse_linear(model: Any) -> None:
    """Let a model that only predicts, on a CPU and in bf16, compute its linear layers so, if that works here."""
    if not _works():
        return
    for module in list(model.modules()):
        if hasattr(module, "intermediate_act_fn") and _is_gelu_of_dense(module):
            _fuse(module.dense, "gelu")
            module.intermediate_act_fn = Identity()
    for module in model.modules():
        if type(module) is Linear:
            _fuse(module, "none")


def _fuse(layer: Linear, activation: str) -> None:
    layer.half = tuple(
        None if part is None else part.detach().to(torch.bfloat16) for part in (layer.weight, layer.bias)
    )
    layer.activation, layer.__class__ = activation, _FusedLinear


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    algorithm = "none" if activation == "gelu" else ""  # of the two kinds of GELU
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, activation, [], algorithm)


def _works() -> bool:
    generator = torch.Generator().manual_seed(0)
    inputs, weight = (torch.randn(shape, generator=generator).bfloat16() for shape in ((5, 16), (8, 16)))
    expected = linear(inputs, weight)
    try:
        found = [_product(inputs, weight, None, activation) for activation in ("none", "gelu")]
    except (AttributeError, RuntimeError):
        return False
    options = {"rtol": ROUNDING, "atol": ROUNDING}
    return all(torch.allclose(*pair, **options) for pair in zip(found, (expected, gelu(expected)), strict=True))


@torch.no_grad()
def _is_gelu_of_dense(module: Any) -> bool:
    """Whether a module, tried with one input, is a linear layer `dense` and GELU, as in BERT's family."""
    dense = getattr(module, "dense", None)
    if type(dense) is not Linear:
        return False
    inputs = torch.linspace(-1.0, 1.0, dense.in_features)[None]
    return torch.equal(module(inputs), gelu(dense(inputs)))
