"""Columns of a records file: what later stages read of the questions of a split."""

from pathlib import Path
from typing import Any

from qa.common.parquet import opened


def titles_and_golds(records_file: str | Path) -> tuple[list[str], dict[str, list[str]]]:
    """Each question's title, and its gold answers by id."""

    titles: list[str] = []
    golds: dict[str, list[str]] = {}
    with opened(records_file) as file:
        for batch in file.iter_batches(columns=["id", "title", "answers"]):
            columns = (batch.column("id"), batch.column("answers").field("text"))
            golds.update(zip(*(column.to_pylist() for column in columns), strict=True))
            titles += batch.column("title").to_pylist()
    return titles, golds


def column(path: str | Path, name: str) -> list[Any]:
    """All values of a column of a records file. Raises as `opened`."""
    with opened(path) as file:
        return file.read([name]).column(0).to_pylist()


def number_of_records(path: str | Path) -> int:
    """Questions in a records file, read from its footer. Raises as `opened`."""
    with opened(path) as file:
        return file.metadata.num_rows
