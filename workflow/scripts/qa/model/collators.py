"""Collators: windows become the tensors of a batch, padded to one width or packed into one row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qa.model.window_dataset import PLACES, POSITIONS, SOFT_TARGETS, TokenRows

IGNORED = -100  # a label that counts in no loss


@dataclass(frozen=True)
class PaddingCollator:
    """Pads windows to one width. A collator for the Trainer and for prediction.

    `width` is a fixed number of tokens, or None for the longest window of each batch, or the next of `widths`
    (ascending) that holds it. Padding stands on the tokenizer's side. On the left it moves the tokens, and the labels
    move along.
    """

    pad_id: int
    pad_type: int
    left: bool
    width: int | None = None
    widths: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokenizer: Any, width: int | None, widths: tuple[int, ...] = ()) -> "PaddingCollator":
        """The collator that pads as a tokenizer does: on its side, with its token."""
        pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return cls(pad_id, tokenizer.pad_token_type_id, tokenizer.padding_side == "left", width, widths)

    def shifts(self, lengths: np.ndarray) -> np.ndarray:
        """Places by which padding moves each window's tokens: an int array of the shape of `lengths` (tokens)."""
        return self._width(lengths) - lengths if self.left else np.zeros_like(lengths)

    def _width(self, lengths: np.ndarray) -> int:
        longest = int(lengths.max())
        return self.width or next((width for width in self.widths if width >= longest), longest)

    def __call__(self, rows: TokenRows) -> dict[str, Any]:
        """The batch as int64 tensors. Token types, labels and soft targets are there if the windows have them.

        input_ids, attention_mask and token_type_ids have the shape (windows, width); start_positions and end_positions
        (windows,); soft targets (windows, places), with weights in float32.
        """
        shifts = self.shifts(rows.lengths)
        places = np.arange(self._width(rows.lengths)) - shifts[:, None]
        real = (places >= 0) & (places < rows.lengths[:, None])
        batch = {"input_ids": np.full(real.shape, self.pad_id, np.int64), "attention_mask": real.astype(np.int64)}
        if "token_type_ids" in rows.lists:
            batch["token_type_ids"] = np.full(real.shape, self.pad_type, np.int64)
        for name, values in rows.lists.items():
            batch[name][real] = values
        return _tensors(batch | _labels(rows, shifts))


@dataclass(frozen=True)
class PackingCollator:
    """Lays windows end to end in one row, for models that `packing` has prepared.

    `first_position` is the model's number for a window's first place; `with_types` says whether the model takes token
    types. The other fields give every batch one of a few fixed shapes, so that compiled code and CUDA graphs serve all
    batches. `budgets` are the possible lengths of the row in tokens. A batch takes the smallest one that holds it, and
    fills the rest; a batch that exceeds all budgets has its own length. `windows` is the largest number of windows in a
    batch, `width` the length of the longest window in tokens. With `few_lengths` a batch without a budget is filled by
    a sixteenth at most, so that there are 16 lengths between any number and twice that number.
    """

    first_position: int
    with_types: bool
    budgets: tuple[int, ...] = ()
    windows: int = 0
    width: int = 0
    few_lengths: bool = False

    def shifts(self, lengths: np.ndarray) -> np.ndarray:
        """Places by which each window's tokens are moved in the logits of `packing.window_logits`: none."""
        return np.zeros_like(lengths)

    def __call__(self, rows: TokenRows) -> dict[str, Any]:
        """The batch: a row of T tokens with W windows, the longest of L tokens. In plain loops it is:

            for piece in [*windows, *fillings]:
                input_ids += piece
                position_ids += range(first_position, first_position + len(piece))
                window_bounds += [len(input_ids)]
            for number, window in enumerate(windows):
                window_tokens[number, :len(window)] = 1
                window_places[number, :len(window)] = range(window_bounds[number], window_bounds[number + 1])

        Fillings are zeros, at most `width` tokens each. With budgets, their number is always the same, and some have no
        tokens; windows without tokens follow the real ones, up to the largest number of windows. Tensors are int64
        unless noted:

        - window_tokens (W, L), and window_places (W, L), which holds any place where there is no token
        - input_ids, position_ids and, if the model takes them, token_type_ids (1, T)
        - window_bounds (windows and fillings + 1,), int32, from 0; `longest_window`, a number
        - start_positions, end_positions (W,), counted from the window's first token, -100 for windows without tokens
        - soft targets (W, places), their weights float32, 0 for windows without tokens
        """
        total, width = int(rows.lengths.sum()), self.width or int(rows.lengths.max())
        step = 1 << max(0, total.bit_length() - 5) if self.few_lengths else 1
        tokens = min((budget for budget in self.budgets if budget >= total), default=-(-total // step) * step)
        lengths = _extended(rows.lengths, max(self.windows, len(rows)))
        bounds = np.cumsum([0, *lengths, *self._fillings(tokens - total, width)])
        batch = _window_places(lengths, bounds, width)  # first: the Trainer counts the windows of the first tensor
        batch |= self._row(rows, bounds)
        for name, values in _labels(rows, np.zeros_like(rows.lengths)).items():
            batch[name] = _extended(values, len(lengths), IGNORED if name in POSITIONS else 0)
        return {**_tensors(batch), "longest_window": width}

    def _fillings(self, tokens: int, width: int) -> np.ndarray:
        """Lengths of the fillings that hold so many tokens. With budgets, their number is always the same."""
        number = -(-max(self.budgets, default=tokens) // width)
        return np.clip(tokens - width * np.arange(number), 0, width)

    def _row(self, rows: TokenRows, bounds: np.ndarray) -> dict[str, np.ndarray]:
        """What the model reads of the row."""
        tokens, total = int(bounds[-1]), int(rows.lengths.sum())
        positions = np.arange(tokens) - np.repeat(bounds[:-1], np.diff(bounds)) + self.first_position
        row = {"position_ids": positions[None], "window_bounds": bounds.astype(np.int32)}
        for name in ("input_ids", "token_type_ids") if self.with_types else ("input_ids",):
            row[name] = np.zeros((1, tokens), np.int64)
            row[name][0, :total] = rows.lists.get(name, 0)
        return row


def _window_places(lengths: np.ndarray, bounds: np.ndarray, width: int) -> dict[str, np.ndarray]:
    columns = np.arange(width)
    return {
        "window_tokens": (columns < lengths[:, None]).astype(np.int64),
        # past a window's end too the places differ: gradients that meet at one place are added one by one
        "window_places": np.minimum(bounds[: len(lengths), None] + columns, bounds[-1] - 1),
    }


def _extended(values: np.ndarray, windows: int, filler: int = 0) -> np.ndarray:
    """The values of a batch's windows, with `filler` for further windows up to their largest number."""
    return np.concatenate([values, np.full((windows - len(values), *values.shape[1:]), filler, values.dtype)])


def _labels(rows: TokenRows, shifts: np.ndarray) -> dict[str, np.ndarray]:
    """Labels and soft targets, moved by `shifts` places, one number for each window."""
    labels = {name: (rows.numbers[name] + shifts).astype(np.int64) for name in POSITIONS if name in rows.numbers}
    for name in SOFT_TARGETS:
        if name in rows.numbers:
            values = rows.numbers[name]
            labels[name] = (values + shifts[:, None]).astype(np.int64) if name in PLACES else values
    return labels


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Any]:

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
