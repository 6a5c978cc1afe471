"""Parquet files between the stages, opened so that damaged pages are noticed and named."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qa.common.errors import broken


@contextmanager
def opened(path: str | Path, what: str = "records", **options: Any) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`, which compares its pages' checksums as they are read, closed after the block.

    Raises InputError, which says `what` cannot be read, where the file is broken. Any error of Arrow's within the block
    counts as one of this file, except those that the system gave a number: of another file, or of the machine.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True, **options) as file:
            yield file
    except (OSError, pa.ArrowInvalid) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise broken(path, what, error) from None
