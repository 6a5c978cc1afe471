"""Columns of a records file, for the stages after `prepare_questions`. Each function raises as `parquet.opened`."""

import json
from pathlib import Path
from typing import Any

from qa.common.parquet import opened
from qa.data.align_answers import MISALIGNED


def titles_and_golds(records_file: str | Path) -> tuple[list[str], dict[str, list[str]]]:
    """The title of each question, in order, and the texts of its gold answers by its id."""
    titles: list[str] = []
    golds: dict[str, list[str]] = {}
    with opened(records_file) as file:
        for batch in file.iter_batches(columns=["id", "title", "answers"]):
            ids, texts = batch.column("id"), batch.column("answers").field("text")
            golds.update(zip(ids.to_pylist(), texts.to_pylist(), strict=True))
            titles += batch.column("title").to_pylist()
    return titles, golds


def column(path: str | Path, name: str) -> list[Any]:
    """All values of one column."""
    with opened(path) as file:
        return file.read([name]).column(0).to_pylist()


def number_of_records(path: str | Path) -> int:
    """The number of questions, read from the file's footer."""
    with opened(path) as file:
        return file.metadata.num_rows


def misaligned(path: str | Path) -> dict[str, int]:
    """How many answers and questions `misaligned` changed in this split (see QuestionCounts.misaligned)."""
    with opened(path) as file:
        return json.loads((file.metadata.metadata or {}).get(MISALIGNED.encode(), "{}"))
