"""Parquet files between the stages, read so that a broken one ends in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qa.common.errors import broken


@contextmanager
def opened(path: str | Path, what: str = "records", **options: Any) -> Iterator[Any]:
    """Yield a `pyarrow.parquet.ParquetFile` with these `options`, and close it after the block.

    Raises InputError, which says that `what` cannot be read, for a file that is missing, broken or has other columns.
    Errors in the block that the system gave a number (another file, the machine) pass through.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    file = None
    try:
        with parquet.ParquetFile(path, **options) as file:
            yield file
    except (OSError, KeyError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        if file is not None and getattr(error, "errno", None) is not None:
            raise
        raise broken(path, what, error) from None
