"""Batches: which windows go together, in an order that seed and epoch determine, and rows padded to one width."""

from collections.abc import Iterator
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


class EpochBatches:
    """Batches of window numbers for a DataLoader, as a pure function of seed and epoch.

    So a resumed training sees the order of an undisturbed one, on any number of processes: each batch is cut into one
    piece a process (`rank` of `processes`). The shuffle is the one that accelerate gives the Trainer. With
    `length_groups` above 1, windows of similar length come together: sorted by length within shuffled groups of so many
    batches, and the batches shuffled; the one with the longest window comes first, so that memory runs out at once or
    never. `lengths` are tokens, an int array of shape (windows,). `batch_size` windows make an optimizer step, computed
    in `parts`; the last batch of an epoch may be smaller.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        parts: int = 1,
        length_groups: int = 1,
        rank: int = 0,
        processes: int = 1,
    ):
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.part, self.length_groups = batch_size // parts, length_groups
        self.rank, self.processes = rank, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose batches the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Forward passes of an epoch on each process."""
        return -(-len(self.lengths) // self.part)

    def order(self) -> np.ndarray:
        """The windows' numbers in the epoch's order, an int64 array of shape (windows,)."""
        import torch

        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).numpy()
        if self.length_groups <= 1:
            return order
        group = self.batch_size * self.length_groups
        groups = [order[start : start + group] for start in range(0, len(order), group)]
        order = np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in groups])
        whole = len(order) // self.batch_size
        batches, rest = (
            order[: whole * self.batch_size].reshape(whole, self.batch_size),
            order[whole * self.batch_size :],
        )
        batches = batches[torch.randperm(whole, generator=generator).numpy()]
        if whole:
            longest = int(self.lengths[batches].max(axis=1).argmax())
            batches[[0, longest]] = batches[[longest, 0]]
        return np.concatenate([batches.ravel(), rest])

    def __iter__(self) -> Iterator[list[int]]:
        """This process's piece of each batch. Where windows are fewer than processes, some are computed twice."""
        order = self.order()
        for start in range(0, len(order), self.part):
            batch = order[start : start + self.part]
            if len(batch) < self.processes:
                batch = np.resize(batch, self.processes)
            yield np.array_split(batch, self.processes)[self.rank].tolist()
