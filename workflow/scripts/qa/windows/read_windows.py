"""Windows on disk as an Arrow table, and where their tokens stand in the text; without `datasets`, a slow import."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from qa.common.errors import broken
from qa.common.files import read_json


def arrow_table(path: str | Path, columns: Sequence[str] | None = None) -> Any:
    """The windows of a folder that `tokenize` wrote, as a memory-mapped `pyarrow.Table` of `columns` (default: all).

    Reads the layout of `datasets.Dataset.save_to_disk`: state.json lists the files, and each file is an Arrow stream.
    Raises InputError for a folder that is missing, broken or lacks one of the columns.
    """
    try:
        names = [entry["filename"] for entry in read_json(Path(path, "state.json"))["_data_files"]]
        tables = []
        for name in names:
            with pa.ipc.open_stream(pa.memory_map(str(Path(path, name)))) as stream:
                tables.append(stream.read_all())
        table = pa.concat_tables(tables)
        return table if columns is None else table.select(list(columns))
    except (OSError, KeyError, TypeError, ValueError) as error:  # Arrow's errors and InputError are ValueErrors too
        raise broken(path, "windows", error) from None


@dataclass(frozen=True)
class TokenOffsets:
    """Where the tokens of W windows stand in the text, all windows' tokens end to end.

    `record`: int (W,), the number of each window's question; `first_token`: int (W + 1,), where a window's tokens begin
    in `offset_start` and `offset_end`: int (tokens,), characters of the context, 0 for special tokens.
    """

    record: np.ndarray
    first_token: np.ndarray
    offset_start: np.ndarray
    offset_end: np.ndarray

    @classmethod
    def of(cls, table: Any) -> "TokenOffsets":
        """Take the columns of a table of windows (see `arrow_table`) as arrays, without a loop over windows."""
        record, starts, ends = (
            pa.concat_arrays(table.column(name).chunks) for name in ("record", "offset_start", "offset_end")
        )
        # from_dlpack, since to_numpy imports pandas
        return cls(*map(np.from_dlpack, (record, starts.offsets, starts.values, ends.values)))

    def characters(self, row: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First character of the tokens `start`, and past-the-last character of the tokens `end`, of windows `row`.

        Both are int arrays of the shape to which `row`, `start` and `end` broadcast, 0 beyond a window's tokens.
        """
        begin, beyond = self.first_token[row], self.first_token[row + 1]

        def lookup(offsets: np.ndarray, place: np.ndarray) -> np.ndarray:
            token = begin + place
            inside = (place >= 0) & (token < beyond)
            return np.where(inside, offsets[np.where(inside, token, 0)], 0)

        return lookup(self.offset_start, start), lookup(self.offset_end, end)
