"""Holding out: whole articles of a training split that calibrate a model and never train it."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.errors import InputError
from qa.common.files import written_aside
from qa.common.parquet import opened
from qa.common.progress import Progress

TOO_MUCH = 0.25  # of what is held out: a title with more would speak for itself alone, so its contexts are told apart
BATCH = 10_000  # records in memory at once

log = logging.getLogger(__name__)


def held_out(
    titles: np.ndarray, contexts: np.ndarray, texts: dict[str, list[str]], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which questions are held out, about `share` of them, from 0 to 1, and which go by context: bool (n,) each.

    `titles`, `contexts`: int (n,), each question's place in the distinct `texts` of that name. Articles go as a whole,
    so that no text of calibration was trained on; single contexts do where the title is missing or holds more than
    TOO_MUCH of the wanted number. Each goes by its own digest alone: so an article that stands in several splits or
    datasets is on the same side in all, whatever stands beside it, unless it holds too much of one of them. A context
    under several titles is on one side.
    """
    sizes = np.bincount(titles, minlength=len(texts["title"]))
    apart = (sizes > TOO_MUCH * share * len(titles)) | np.array([not title for title in texts["title"]], bool)
    title_goes, context_goes = (np.array([_goes(name, text, share) for text in each]) for name, each in texts.items())
    goes = np.where(apart[titles], context_goes[contexts], title_goes[titles])
    return np.bincount(contexts, goes, len(texts["context"]))[contexts] > 0, apart[titles]


def _goes(kind: str, text: str, share: float) -> bool:
    digest = hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def divide(records_file: str | Path, share: float, kept: str | Path, held: str | Path) -> tuple[int, int]:
    """Write the records that train and those that are held out as two files of the records' schema; their numbers.

    Raises InputError where one side would be empty.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    chosen, apart = _chosen(records_file, share)
    numbers = int((~chosen).sum()), int(chosen.sum())
    if not all(numbers):
        raise InputError(
            f"{records_file}: holding out {share:g} of {len(chosen):,} questions by whole articles or contexts leaves "
            f"{numbers[0]:,} for training and {numbers[1]:,} for calibration; change hold_out, or give more data"
        )
    with opened(records_file) as file, written_aside(kept) as one, written_aside(held) as other:
        options = {"schema": file.schema_arrow, "compression": "zstd"}
        with parquet.ParquetWriter(one, **options) as trains, parquet.ParquetWriter(other, **options) as calibrates:
            first, progress = 0, Progress("hold out", len(chosen), "questions")
            for batch in file.iter_batches(BATCH):
                part = chosen[first : first + len(batch)]
                first += len(batch)
                for writer, mask in ((trains, ~part), (calibrates, part)):
                    if mask.any():
                        writer.write_batch(batch.filter(pa.array(mask)))
                progress.reach(first)
    by_context = int((chosen & apart).sum())
    log.info(
        f"{numbers[1]:,} questions held out for calibration, {numbers[1] - by_context:,} with their whole articles and "
        f"{by_context:,} with their contexts alone, out of long articles or without a title; {numbers[0]:,} train"
    )
    return numbers


def _chosen(records_file: str | Path, share: float) -> tuple[np.ndarray, np.ndarray]:
    """`held_out` of a file's records, each distinct text in memory once."""
    names = ["title", "context"]
    with opened(records_file, read_dictionary=names) as file:
        table: Any = file.read(names).combine_chunks()
    columns = {name: table.column(name).combine_chunks() for name in names}
    texts = {name: column.dictionary.to_pylist() for name, column in columns.items()}
    places = [column.indices.to_numpy(zero_copy_only=False) for column in columns.values()]
    return held_out(*places, texts, share)
