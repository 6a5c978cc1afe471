"""Windows on disk as a memory-mapped Arrow table. Importing `datasets` would take longer than reading them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qa.common.errors import broken
from qa.common.files import read_json


def arrow_table(path: str | Path, columns: Sequence[str] | None = None) -> Any:
    """The windows of a folder that `tokenize` wrote, as a memory-mapped `pyarrow.Table` of `columns` (default: all).

    Reads the layout of `datasets.Dataset.save_to_disk`: state.json lists the files, and each file is an Arrow stream.
    Raises InputError for a folder that is missing, broken or lacks one of the columns.
    """
    import pyarrow as pa

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
