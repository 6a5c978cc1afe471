"""Spans: the best starts and ends of each window with their logits, as prediction hands them to decoding."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from qa.common.parquet import opened
from qa.windows.read_windows import TokenOffsets

BLOCK = 50_000  # windows whose offsets are in memory at once


@dataclass
class Spans:
    """What prediction keeps of each window: all that decoding needs of it. W windows, k candidates.

    `record`: int32 (W,), the number of the window's question, rising. `start_index`, `end_index`: int32 (W, k), tokens
    of the window, best first, -1 where the context is shorter than k; `start_logit`, `end_logit`: float32 (W, k);
    `start_character`, `end_character`: int32 (W, k), where those tokens begin and end in the context. `null_score`:
    float32 (W,), start plus end logit of the null position. `row_*`: (W,), the greatest of the whole row with question,
    special tokens and padding, which the walkthrough decodes. `label_tokens`: int32 (W,), tokens of the window's
    label, 0 without an answer.
    """

    record: np.ndarray
    label_tokens: np.ndarray
    start_index: np.ndarray
    start_logit: np.ndarray
    start_character: np.ndarray
    end_index: np.ndarray
    end_logit: np.ndarray
    end_character: np.ndarray
    null_score: np.ndarray
    row_start_index: np.ndarray
    row_start_logit: np.ndarray
    row_start_character: np.ndarray
    row_end_index: np.ndarray
    row_end_logit: np.ndarray
    row_end_character: np.ndarray

    @classmethod
    def empty(cls, windows: int, candidates: int) -> "Spans":
        """Room for `windows` windows of `candidates` candidates, nothing found yet."""

        def column(name: str) -> np.ndarray:
            shape = (windows,) if name.startswith(("row_", "null_", "record", "label_")) else (windows, candidates)
            if name.endswith(("logit", "score")):
                return np.full(shape, -np.inf, np.float32)
            return np.full(shape, 0 if name.endswith(("character", "tokens")) else -1, np.int32)

        return cls(**{part.name: column(part.name) for part in fields(cls)})

    @property
    def candidates(self) -> int:
        """Starts, and ends, kept for each window."""
        return self.start_index.shape[1]

    @property
    def questions(self) -> int:
        """Questions that the windows belong to: each question has at least one window."""
        return int(self.record[-1]) + 1 if len(self) else 0

    def __len__(self) -> int:
        return len(self.null_score)

    def put(self, rows: np.ndarray, found: dict[str, np.ndarray]) -> None:
        """Set the values of some windows, each array's first axis in the order of `rows`."""
        for name, values in found.items():
            getattr(self, name)[rows] = values

    def locate(self, windows: Any) -> "Spans":
        """Fill in `record` and the characters from the table of these windows (see read_windows.arrow_table)."""
        for begin in range(0, len(self), BLOCK):
            offsets = TokenOffsets.of(windows.slice(begin, BLOCK))
            part, row = slice(begin, begin + BLOCK), np.arange(len(offsets.record))
            self.record[part] = offsets.record
            for prefix, rows in (("", row[:, None]), ("row_", row)):
                start, end = (getattr(self, f"{prefix}{side}_index")[part] for side in ("start", "end"))
                characters = offsets.characters(rows, start, end)
                for side, values in zip(("start", "end"), characters, strict=True):
                    getattr(self, f"{prefix}{side}_character")[part] = values
        return self

    def write(self, path: str | Path) -> None:
        """Write as Parquet: a row a window, candidates as lists of fixed length; read with pandas or pyarrow."""
        columns = {}
        for part in fields(self):
            values = getattr(self, part.name)
            flat = pa.array(values.reshape(-1))
            columns[part.name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, self.candidates)
        parquet.write_table(pa.table(columns), path, compression="zstd")

    @classmethod
    def read(cls, path: str | Path) -> "Spans":
        """Read what `write` wrote; raises InputError for a file that is broken or holds something else."""
        arrays = {}
        with opened(path, "spans") as file:
            for part in fields(cls):  # one by one, since reading takes twice what a column does
                column = file.read([part.name]).column(part.name)
                chunks = [c.flatten() if pa.types.is_fixed_size_list(c.type) else c for c in column.chunks]
                width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else None
                arrays[part.name] = np.from_dlpack(pa.concat_arrays(chunks)).reshape((-1, width) if width else -1)
        pa.default_memory_pool().release_unused()  # what reading took beside the columns
        return cls(**arrays)
