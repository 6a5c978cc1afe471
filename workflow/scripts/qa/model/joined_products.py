"""Queries, keys and values of self-attention as one matrix product."""

from typing import Any

import torch
from torch.nn import Linear
from torch.nn.functional import linear

NAMES = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q_lin", "k_lin", "v_lin"))  # as models name them


class _Query(Linear):
    """Computes all three projections, and keeps keys and values until they are asked for."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        weight = torch.cat([part.weight for part in self.parts])
        bias = None if self.bias is None else torch.cat([part.bias for part in self.parts])
        query, *self.kept = linear(inputs, weight, bias).split([part.out_features for part in self.parts], dim=-1)
        return query


class _Later(Linear):
    """Keys or values, which `_Query` has computed of the same inputs."""

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.parts[0].kept.pop(0)


def join(model: Any) -> None:
    """Let self-attention compute its projections in one product, which differs by rounding only.

    The weights stay where they are, so their names, checkpoints and gradients stay too. Only for modules that project
    the same inputs to queries, keys and values in this order: try the model afterwards.
    """
    for module in list(model.modules()):
        for names in NAMES:
            parts = tuple(getattr(module, name, None) for name in names)
            if all(type(part) is Linear for part in parts) and len({part.bias is None for part in parts}) == 1:
                for part, kind in zip(parts, (_Query, _Later, _Later), strict=True):
                    part.__class__, part.parts = kind, parts  # a tuple: torch would register a module or a list of them


def separate(model: Any) -> None:
    """Undo `join`."""
    for module in model.modules():
        if isinstance(module, (_Query, _Later)):
            module.__class__ = Linear
            del module.parts
