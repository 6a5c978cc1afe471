"""Batches: rows of different lengths padded to one width."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Padder:
    """Pads windows to one width, a collator for the Trainer and for prediction.

    `width` is a fixed number of tokens, or None for the longest row of each batch. Rows are padded on the tokenizer's
    side; on the left, the positions of labels move along.
    """

    pad_id: int
    pad_type: int
    left: bool
    width: int | None = None

    @classmethod
    def of(cls, tokenizer: Any, settings: dict[str, Any]) -> "Padder":
        """The padder for a tokenizer and the settings `padding` and `max_length`."""
        width = settings["max_length"] if settings["padding"] == "max_length" else None
        pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return cls(pad_id, tokenizer.pad_token_type_id, tokenizer.padding_side == "left", width)

    def shifts(self, lengths: np.ndarray) -> np.ndarray:
        """By how many places padding moves each row's tokens: an int array of the shape of `lengths` (tokens)."""
        width = self.width or int(lengths.max())
        return width - lengths if self.left else np.zeros_like(lengths)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Tensors of shape (rows, width), int64: input_ids, attention_mask, and where the rows have them
        token_type_ids; and of shape (rows,) start_positions and end_positions.
        """
        import torch

        lengths = np.array([len(row["input_ids"]) for row in rows])
        width, shifts = self.width or int(lengths.max()), self.shifts(lengths)
        filled = {"input_ids": self.pad_id, "attention_mask": 0}
        if "token_type_ids" in rows[0]:
            filled["token_type_ids"] = self.pad_type
        batch = {name: np.full((len(rows), width), value, np.int64) for name, value in filled.items()}
        for i, (row, length, shift) in enumerate(zip(rows, lengths, shifts, strict=True)):
            for name, array in batch.items():
                array[i, shift : shift + length] = 1 if name == "attention_mask" else row[name]
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        for name in ("start_positions", "end_positions"):
            if name in rows[0]:
                tensors[name] = torch.from_numpy(np.array([row[name] for row in rows]) + shifts)
        return tensors
