"""Collators: windows become the tensors of a batch, padded to one width or packed into one row."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from qa.model.window_dataset import PLACES, POSITIONS, SOFT_TARGETS, TokenRows

IGNORED = -100  # a position that counts in no loss


@dataclass(frozen=True)
class PaddingCollator:
    """Pads windows to one width, a collator for the Trainer and for prediction.

    `width` is a fixed number of tokens, or None for the longest row of each batch. Rows are padded on the tokenizer's
    side; on the left, the positions of labels move along.
    """

    pad_id: int
    pad_type: int
    left: bool
    width: int | None = None

    @classmethod
    def of(cls, tokenizer: Any, settings: dict[str, Any]) -> "PaddingCollator":
        """The padder for a tokenizer and the settings `padding` and `max_length`."""
        width = settings["max_length"] if settings["padding"] == "max_length" else None
        pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return cls(pad_id, tokenizer.pad_token_type_id, tokenizer.padding_side == "left", width)

    def shifts(self, lengths: np.ndarray) -> np.ndarray:
        """By how many places padding moves each row's tokens: an int array of the shape of `lengths` (tokens)."""
        width = self.width or int(lengths.max())
        return width - lengths if self.left else np.zeros_like(lengths)

    def __call__(self, rows: TokenRows) -> dict[str, Any]:
        """Tensors of shape (rows, width), int64: input_ids, attention_mask, and where the rows have them
        token_type_ids; of shape (rows,) start_positions and end_positions; and the soft targets that the rows have.
        """
        width, shifts = self.width or int(rows.lengths.max()), self.shifts(rows.lengths)
        places = np.arange(width) - shifts[:, None]
        real = (places >= 0) & (places < rows.lengths[:, None])
        batch = {"input_ids": np.full(real.shape, self.pad_id, np.int64), "attention_mask": real.astype(np.int64)}
        if "token_type_ids" in rows.lists:
            batch["token_type_ids"] = np.full(real.shape, self.pad_type, np.int64)
        for name, values in rows.lists.items():
            batch[name][real] = values
        return _tensors(batch | _labels(rows, shifts))


@dataclass(frozen=True)
class PackingCollator:
    """Lays windows end to end in one row, a collator like PaddingCollator for models that `packing` has prepared.

    `first_position` is the model's number for a window's first place, `with_types` whether it takes token types.
    For fixed shapes, so that compiled code and CUDA graphs serve every batch: `budgets`, the tokens that a row may have
    (the least that holds a batch is taken, the rest is filled with windows that count in no loss; a batch that none
    holds has its own size), `windows`, the most that a batch has, and `width`, the longest that a window can be.
    """

    first_position: int
    with_types: bool
    budgets: tuple[int, ...] = ()
    windows: int = 0
    width: int = 0

    def shifts(self, lengths: np.ndarray) -> np.ndarray:
        """By how many places a window's tokens are moved in the logits that `packing.window_logits` gives: none."""
        return np.zeros_like(lengths)

    def __call__(self, rows: TokenRows) -> dict[str, Any]:
        """Tensors for W windows (the filling apart), the longest of L tokens, T tokens in all.

        `window_tokens` int64 (W, L), 1 where a window has a token, and `window_places` int64 (W, L), its place in the
        row (where it has none, any); `input_ids`, `position_ids` and, where the model takes them, `token_type_ids`,
        int64 (1, T);
        `window_bounds` int32, where each window begins, and the end, fillings included; `longest_window`, a number;
        `start_positions` and `end_positions`, int64 (W,), counted within the window, -100 for windows that only fill;
        soft targets of shape (W, places), without weight there.
        """
        total = int(rows.lengths.sum())
        tokens = min((budget for budget in self.budgets if budget >= total), default=total)
        width = self.width or int(rows.lengths.max())
        lengths = np.zeros(max(self.windows, len(rows)), np.int64)
        lengths[: len(rows)] = rows.lengths
        every = np.concatenate([lengths, self._filling(tokens - total, width)])
        bounds = np.concatenate([[0], np.cumsum(every)])
        within = np.arange(tokens) - np.repeat(bounds[:-1], every)
        real = np.arange(width) < lengths[:, None]
        batch = {  # the Trainer takes the first one's length as the number of windows
            "window_tokens": real.astype(np.int64),
            # past a window's end too they differ, since gradients that meet at one place are added one by one
            "window_places": np.minimum(bounds[: len(lengths), None] + np.arange(width), tokens - 1),
            "input_ids": np.zeros(tokens, np.int64),
            "position_ids": (within + self.first_position)[None],
            "window_bounds": bounds.astype(np.int32),
        }
        batch["input_ids"][:total] = rows.lists["input_ids"]
        if self.with_types:
            batch["token_type_ids"] = np.zeros(tokens, np.int64)
            batch["token_type_ids"][:total] = rows.lists.get("token_type_ids", 0)
        for name in ("input_ids", "token_type_ids"):
            if name in batch:
                batch[name] = batch[name][None]
        labels = _labels(rows, np.zeros(len(rows), np.int64))
        for name, values in labels.items():  # windows that only fill: no place, and no weight anywhere
            more = np.zeros((len(lengths) - len(rows), *values.shape[1:]), values.dtype)
            labels[name] = np.concatenate([values, more + IGNORED if name in POSITIONS else more])
        return {**_tensors(batch | labels), "longest_window": width}

    def _filling(self, tokens: int, width: int) -> np.ndarray:
        """Lengths of the windows that fill a row up, always as many."""
        most = -(-max(self.budgets, default=0) // width)
        return np.clip(tokens - width * np.arange(most), 0, width)


def _labels(rows: TokenRows, shifts: np.ndarray) -> dict[str, np.ndarray]:
    """Labels and soft targets, moved by so many places in each row."""
    labels = {name: (rows.numbers[name] + shifts).astype(np.int64) for name in POSITIONS if name in rows.numbers}
    for name in SOFT_TARGETS:
        if name in rows.numbers:
            values = rows.numbers[name]
            labels[name] = (values + shifts[:, None]).astype(np.int64) if name in PLACES else values
    return labels


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
