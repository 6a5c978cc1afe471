"""DeBERTa v2 and v3 over packed rows: each window's attention follows the distances between its own tokens.

On a CPU, one window after the other goes through the encoder's own attention. On a GPU, a kernel of the optional Python
package flashdeberta computes all windows at once, after a trial; it has no attention dropout.
"""

import copy
import importlib
import math
from typing import Any

import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Encoder, DisentangledSelfAttention

from qa.common.errors import first_line

KERNEL = ("flashdeberta.ops.flash_attention_varlen", "flash_attention_with_disentangled_varlen")
TRIED = (3, 0, 70)  # tokens of the windows that the kernel is tried with
TOLERANCE = 0.05  # of the norm: half precision


class PackedSelfAttention(DisentangledSelfAttention):
    """Attention within the windows of a packed row. `windows`: their bounds, and the tokens of the longest one."""

    windows: tuple[torch.Tensor, int]

    def forward(
        self,
        hidden_states: torch.Tensor,
        *_: Any,
        rel_embeddings: torch.Tensor | None = None,
        **__: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attention of a row of states, (1, tokens, width); same shape. Masks and distances are made here."""
        way = self.by_turns if hidden_states.device.type == "cpu" else self.by_kernel
        return way(hidden_states, rel_embeddings), None

    def by_turns(self, states: torch.Tensor, rel_embeddings: torch.Tensor) -> torch.Tensor:
        """One window after the other, by the encoder's own attention."""
        everything = torch.ones(1, 1, 1, 1, device=states.device)
        windows = [part for part in states.split(self.windows[0].diff().tolist(), dim=1) if part.shape[1]]
        return torch.cat(
            [
                super(PackedSelfAttention, self).forward(part, everything, rel_embeddings=rel_embeddings)[0]
                for part in windows
            ],
            dim=1,
        )

    def by_kernel(self, states: torch.Tensor, rel_embeddings: torch.Tensor) -> torch.Tensor:
        """All windows at once, by flashdeberta."""
        bounds, longest = self.windows
        tokens, positions = states[0], self.pos_dropout(rel_embeddings)[: 2 * self.pos_ebd_size]
        query, key, value = (
            self._heads(project(tokens)) for project in (self.query_proj, self.key_proj, self.value_proj)
        )
        keys, queries = ("key_proj", "query_proj") if self.share_att_key else ("pos_key_proj", "pos_query_proj")
        of_positions = [
            self._heads(getattr(self, name)(positions)).transpose(0, 1)[None] if kind in self.pos_att_type else None
            for kind, name in (("c2p", keys), ("p2c", queries))
        ]
        attended = _kernel()(
            query,
            key,
            value,
            *of_positions,
            bounds,
            bounds,
            longest,
            longest,
            sm_scale=1 / math.sqrt(query.shape[-1] * (1 + len({"c2p", "p2c"}.intersection(self.pos_att_type)))),
            position_buckets=self.position_buckets,
            max_relative_distance=self.max_relative_positions,
        )
        return attended.flatten(1)[None]

    def _heads(self, values: torch.Tensor) -> torch.Tensor:
        return values.view(len(values), self.num_attention_heads, -1)


class PackedEncoder(DebertaV2Encoder):
    """The encoder without what grows with the square of the row: masks, and distances of tokens."""

    def get_attention_mask(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """The mask as it is: PackedSelfAttention keeps the windows apart."""
        return attention_mask

    def get_rel_pos(self, *_: Any) -> None:
        """Nothing: PackedSelfAttention finds the distances within each window."""


PACKED = {DisentangledSelfAttention: PackedSelfAttention, DebertaV2Encoder: PackedEncoder}


def suits(model: Any) -> bool:
    """Whether a model is a DeBERTa v2 or v3 with attention by distances."""
    return model.config.model_type == "deberta-v2" and model.config.relative_attention


def is_packed(model: Any) -> bool:
    """Whether `pack` has changed the model."""
    return hasattr(model, "window_hook")


def pack(model: Any) -> None:
    """Let the model compute batches of a PackingCollator. The names of its weights stay."""
    _exchange(model, PACKED)
    model.window_hook = model.register_forward_pre_hook(_hand_over, with_kwargs=True)


def unpack(model: Any) -> None:
    """Undo `pack`, where it was done."""
    if is_packed(model):
        _exchange(model, {packed: plain for plain, packed in PACKED.items()})
        model.window_hook.remove()
        del model.window_hook


def try_kernel(model: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Why a packed model cannot compute by the kernel on a GPU, or "".

    Results and gradients must be those of the encoder's own attention, for windows of TRIED tokens.
    """
    name = type(model).__name__
    if model.config.attention_probs_dropout_prob:
        return f"{name} with attention dropout cannot pack its rows on a GPU (set training.attention_dropout: 0)"
    try:
        _kernel()
    except ImportError:
        return f"{name} packs its rows on a GPU only with the Python package flashdeberta (pip install flashdeberta)"
    modules = [module for module in model.modules() if isinstance(module, PackedSelfAttention)]
    attention = copy.deepcopy(modules[0]).to(device).eval()
    attention.windows = (torch.tensor([0, *TRIED], device=device).cumsum(0).int(), max(TRIED))
    generator = torch.Generator().manual_seed(0)
    width = attention.query_proj.in_features
    inputs = [
        torch.randn(shape, generator=generator).to(device).requires_grad_()
        for shape in ((1, sum(TRIED), width), (2 * attention.pos_ebd_size, width))
    ]
    results = []
    try:
        for way in (attention.by_turns, attention.by_kernel):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                output = way(*inputs).float()
            results.append([output.detach(), *torch.autograd.grad(output.square().sum(), inputs)])
    except Exception as error:  # Triton's errors have no public base class
        return f"flashdeberta does not work here ({type(error).__name__}: {first_line(error)})"
    apart = max(((one - other).norm() / one.norm()).item() for one, other in zip(*results, strict=True))
    return "" if apart < TOLERANCE else f"flashdeberta gives other results or gradients (by {apart:.1%})"


def _kernel() -> Any:
    module, name = KERNEL
    return getattr(importlib.import_module(module), name)


def _exchange(model: Any, classes: dict[type, type]) -> None:
    for module in model.modules():
        module.__class__ = classes.get(type(module), type(module))


def _hand_over(model: Any, _: Any, batch: dict[str, Any]) -> None:
    for module in model.modules():
        if isinstance(module, PackedSelfAttention):
            module.windows = (batch["window_bounds"], batch["longest_window"])
