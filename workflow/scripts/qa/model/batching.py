"""Batches: which windows go together, in an order that seed and epoch determine, padded or packed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa.common.errors import InputError, broken

POSITIONS = ("start_positions", "end_positions")  # a window's labels
PLACES = ("start_places", "end_places")  # tokens of a window's soft targets
SOFT_TARGETS = (*PLACES, "start_weights", "end_weights")
IGNORED = -100  # a position that counts in no loss
NOTHING = np.zeros(0, np.int32)


@dataclass(frozen=True)
class TokenRows:
    """Some windows as arrays. `lists`: by name, int32 (tokens,), the windows' values laid end to end; `numbers`: by
    name, int (windows,), soft targets (windows, places); `lengths`: tokens, int64 (windows,).
    """

    lists: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)


class WindowDataset:
    """The windows of a folder as a data set: memory-mapped, without an object a window.

    `table` is their Arrow table, `columns` those wanted of it, `more` arrays with a row a window. Asked for several
    windows at once, as a DataLoader does, it gives TokenRows.
    """

    def __init__(self, table: Any, columns: list[str], more: dict[str, np.ndarray] | None = None):
        lists = [name for name in columns if hasattr(table.schema.field(name).type, "value_type")]
        chunks = table.column("input_ids").chunks
        starts = [chunk.offsets.to_numpy() for chunk in chunks] or [np.zeros(1, np.int32)]
        self._values = {name: [chunk.values.to_numpy() for chunk in table.column(name).chunks] for name in lists}
        self._chunk = np.repeat(np.arange(len(starts)), [len(start) - 1 for start in starts])
        self._start = np.concatenate([start[:-1] for start in starts])
        self.lengths = np.concatenate([np.diff(start) for start in starts]).astype(np.int64)
        self._numbers = {name: table.column(name).to_numpy() for name in columns if name not in lists} | (more or {})

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> TokenRows:
        return self.rows([number])

    def __getitems__(self, numbers: list[int]) -> TokenRows:
        return self.rows(numbers)

    def rows(self, numbers: list[int] | np.ndarray) -> TokenRows:
        """The windows with these numbers, in this order."""
        numbers = np.asarray(numbers, np.int64)
        lengths = self.lengths[numbers]
        places = list(zip(self._chunk[numbers], self._start[numbers], self._start[numbers] + lengths, strict=True))
        lists = {
            name: np.concatenate(
                [values[chunk][start:stop] for chunk, start, stop in places] or [np.zeros(0, np.int32)]
            )
            for name, values in self._values.items()
        }
        return TokenRows(lists, {name: values[numbers] for name, values in self._numbers.items()}, lengths)


def read_targets(files: list[str], windows: int) -> dict[str, np.ndarray]:
    """SOFT_TARGETS of files that distillation.write_targets wrote, one after the other, for so many windows in all.

    Arrays of shape (windows, places). Raises InputError for files that are broken or of other windows.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        tables = [parquet.read_table(file) for file in files]
        table = pa.concat_tables(tables).select(SOFT_TARGETS)
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise broken(" ".join(files), "soft targets", error) from None
    if table.num_rows != windows:
        raise InputError(
            f"{', '.join(files)}: soft targets of {table.num_rows:,} windows, where {windows:,} are trained on; remove "
            "the files and run again"
        )
    return {
        name: np.concatenate([np.from_dlpack(chunk.flatten()) for chunk in table.column(name).chunks]).reshape(
            windows, -1
        )
        for name in SOFT_TARGETS
    }


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


class EpochBatchSampler:
    """Batches of window numbers for a DataLoader, as a pure function of seed and epoch.

    So a resumed training sees the order of an undisturbed one, on any number of processes: each batch is dealt out to
    them (`rank` of `processes`). The shuffle is the one that accelerate gives the Trainer. With `even`, each batch is a
    sample of all lengths, one window from each of as many strata as it has windows: so batches have nearly as many
    tokens, and rows of one size hold them with little to fill up. With `length_groups` above 1, windows of similar
    length come together: sorted by length within shuffled groups of so many batches, and the batches shuffled; the one
    with the longest window comes first, so that memory runs out at once or never. `lengths` are tokens, an int array of
    shape (windows,). `batch_size` windows make an optimizer step, computed in `parts`; the last batch of an epoch may
    be smaller.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        parts: int = 1,
        length_groups: int = 1,
        even: bool = False,
        rank: int = 0,
        processes: int = 1,
    ):
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.part, self.length_groups, self.even = batch_size // parts, length_groups, even
        self.rank, self.processes = rank, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose batches the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Forward passes of an epoch on each process."""
        return -(-len(self.lengths) // self.part)

    def totals(self, epochs: int) -> np.ndarray:
        """Tokens of each batch of this process in the first `epochs` epochs, an int64 array."""
        before, totals = self.epoch, []
        for epoch in range(epochs):
            self.set_epoch(epoch)
            totals += [self.lengths[batch].sum() for batch in self]
        self.set_epoch(before)
        return np.array(totals, np.int64)

    def order(self) -> np.ndarray:
        """The windows' numbers in the epoch's order, an int64 array of shape (windows,)."""
        import torch

        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).numpy()
        if self.length_groups > 1:
            return self._in_length_groups(order, generator)
        return self._stratified(order, generator) if self.even else order

    def _stratified(self, order: np.ndarray, generator: Any) -> np.ndarray:
        import torch

        whole = len(order) // self.part
        chosen, rest = np.split(order, [whole * self.part])
        strata = chosen[np.argsort(-self.lengths[chosen], kind="stable")].reshape(self.part, whole)
        dealt = torch.rand(strata.shape, generator=generator).argsort(dim=1).numpy()
        return np.concatenate([np.take_along_axis(strata, dealt, axis=1).T.ravel(), rest])

    def _in_length_groups(self, order: np.ndarray, generator: Any) -> np.ndarray:
        import torch

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
            yield batch[self.rank :: self.processes].tolist()
