"""Hold out: whole articles of a training split that calibrate a model and never train it."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from qa.common.errors import InputError
from qa.common.files import written_aside
from qa.common.parquet import opened
from qa.common.progress import Progress

LARGE_ARTICLE = 0.25  # of the questions to hold out: a larger article would dominate them, so it is divided by context
BATCH_RECORDS = 10_000  # records in memory at once

log = logging.getLogger(__name__)


def held_out(
    titles: np.ndarray, contexts: np.ndarray, texts: dict[str, list[str]], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which questions are held out, about `share` (0 to 1) of all, and which were drawn by context: bool (questions,).

    `titles` and `contexts`, int (questions,), number each question's title and context in the distinct `texts` of that
    name. Articles are drawn as a whole, so that training sees no text of the calibration. Questions without a title,
    and articles with more than LARGE_ARTICLE of the questions to hold out, are drawn context by context.

    The digest of the title or context alone decides. So an article is on the same side in every split and dataset,
    unless it is too large in one of them. A context under several titles is on one side.
    """
    sizes = np.bincount(titles, minlength=len(texts["title"]))
    untitled = np.array([not title for title in texts["title"]], bool)
    by_context = (untitled | (sizes > LARGE_ARTICLE * share * len(titles)))[titles]
    title_drawn = np.array([_drawn("title", title, share) for title in texts["title"]])
    context_drawn = np.array([_drawn("context", context, share) for context in texts["context"]])
    drawn = np.where(by_context, context_drawn[contexts], title_drawn[titles])
    # a context goes with any of its questions
    context_held_out = np.bincount(contexts, drawn, len(texts["context"])) > 0
    return context_held_out[contexts], by_context


def _drawn(kind: str, text: str, share: float) -> bool:
    digest = hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def divide(records_file: str | Path, share: float, kept: str | Path, held: str | Path) -> tuple[int, int]:
    """Write the records to train on (`kept`) and those held out (`held`), both in the records' schema and order.

    Returns the number of each. Raises InputError where one side would be empty.
    """
    chosen, by_context = _chosen(records_file, share)
    numbers = int((~chosen).sum()), int(chosen.sum())
    if not all(numbers):
        raise InputError(
            f"{records_file}: holding out {share:g} of {len(chosen):,} questions by whole articles or contexts leaves "
            f"{numbers[0]:,} for training and {numbers[1]:,} for calibration; change hold_out, or give more data"
        )
    with opened(records_file) as file, written_aside(kept) as kept_partial, written_aside(held) as held_partial:
        options = {"schema": file.schema_arrow, "compression": "zstd"}
        with (
            parquet.ParquetWriter(kept_partial, **options) as kept_writer,
            parquet.ParquetWriter(held_partial, **options) as held_writer,
        ):
            first, progress = 0, Progress("hold out", len(chosen), "questions")
            for batch in file.iter_batches(BATCH_RECORDS):
                held_rows = chosen[first : first + len(batch)]
                first += len(batch)
                for writer, rows in ((kept_writer, ~held_rows), (held_writer, held_rows)):
                    if rows.any():
                        writer.write_batch(batch.filter(pa.array(rows)))
                progress.reach(first)
    single = int((chosen & by_context).sum())
    log.info(
        f"{numbers[1]:,} questions held out for calibration: {numbers[1] - single:,} in whole articles, {single:,} in "
        f"single contexts of long articles or without a title; {numbers[0]:,} questions train"
    )
    return numbers


def _chosen(records_file: str | Path, share: float) -> tuple[np.ndarray, np.ndarray]:
    """`held_out` for a file's records; each distinct text is in memory once."""
    names = ["title", "context"]
    with opened(records_file, read_dictionary=names) as file:
        table: Any = file.read(names).combine_chunks()
    columns = {name: table.column(name).combine_chunks() for name in names}
    texts = {name: column.dictionary.to_pylist() for name, column in columns.items()}
    titles, contexts = (columns[name].indices.to_numpy(zero_copy_only=False) for name in names)
    return held_out(titles, contexts, texts, share)
