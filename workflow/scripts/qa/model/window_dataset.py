"""The windows of a folder as a data set: memory-mapped columns, read a batch at a time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from qa.common.errors import InputError
from qa.common.parquet import opened

POSITIONS = ("start_positions", "end_positions")  # a window's labels
GOLDS = "golds"  # the labels of all gold answers that a window holds
PLACES = ("start_places", "end_places")  # tokens of a window's soft targets
SOFT_TARGETS = (*PLACES, "start_weights", "end_weights")


@dataclass(frozen=True)
class TokenRows:
    """Windows as arrays, by the names of their columns."""

    lists: dict[str, np.ndarray]  # int32 (tokens,): the windows' values end to end
    numbers: dict[str, np.ndarray]  # int (windows,); soft targets (windows, places)
    lengths: np.ndarray  # tokens, int64 (windows,)

    def __len__(self) -> int:
        return len(self.lengths)


class WindowDataset:
    """The windows of a folder as a data set: memory-mapped, without a Python object for each window.

    `table` is their Arrow table, `columns` are the names of the columns to read, and `soft_targets` are arrays with a
    row for each window. A DataLoader gets a batch of windows as TokenRows. With a `seed`, the gold answers of a window
    that names all of them (`golds`) take turns as its label.
    """

    def __init__(
        self, table: Any, columns: list[str], soft_targets: dict[str, np.ndarray] | None = None, seed: int | None = None
    ):
        lists = [name for name in columns if hasattr(table.schema.field(name).type, "value_type")]
        chunks = table.column("input_ids").chunks
        starts = [chunk.offsets.to_numpy() for chunk in chunks] or [np.zeros(1, np.int32)]
        self._values = {name: [chunk.values.to_numpy() for chunk in table.column(name).chunks] for name in lists}
        self._chunk = np.repeat(np.arange(len(starts)), [len(start) - 1 for start in starts])
        self._start = np.concatenate([start[:-1] for start in starts])
        self.lengths = np.concatenate([np.diff(start) for start in starts]).astype(np.int64)
        self._numbers = {name: table.column(name).to_numpy() for name in columns if name not in lists}
        self._numbers |= soft_targets or {}
        self._golds, self._seed = None, seed
        if seed is not None and GOLDS in table.column_names:
            golds = table.column(GOLDS).chunks
            counts = np.concatenate([np.diff(chunk.offsets.to_numpy()) // 2 for chunk in golds])
            self._golds = counts, np.concatenate([chunk.flatten().to_numpy() for chunk in golds]).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Label the windows for an epoch, counted from 0: each window's golds take turns, the first one at random."""
        if self._golds is None:
            return
        counts, golds = self._golds
        turn = np.random.default_rng(self._seed).integers(0, counts) + epoch
        chosen = golds[np.cumsum(counts) - counts + turn % counts]
        self._numbers |= dict(zip(POSITIONS, chosen.T, strict=True))

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
    """The SOFT_TARGETS in files of soft_targets.write_targets, one file after the other: arrays (windows, places).

    Raises InputError for a broken file, or if the files do not have `windows` rows in all.
    """

    tables = []
    for path in files:
        with opened(path, "soft targets") as file:
            tables.append(file.read().select(SOFT_TARGETS))
    table = pa.concat_tables(tables)
    if table.num_rows != windows:
        raise InputError(
            f"{', '.join(files)}: soft targets of {table.num_rows:,} windows, but training has {windows:,} windows; "
            "remove the files and run again"
        )
    return {
        name: np.concatenate([np.from_dlpack(chunk.flatten()) for chunk in table.column(name).chunks]).reshape(
            windows, -1
        )
        for name in SOFT_TARGETS
    }
