"""Decoding: from the best starts and ends of windows to answers in text. NumPy only, no torch."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qa.errors import InputError
from qa.files import write_json, written_aside
from qa.spans import Spans
from qa.windows import load_windows

PAIRS = 1_600_000  # starts by ends whose joint scores are in memory at once
NO_SPAN = -1.0e6  # stands for the best score of a question without any span, in place of -inf, which JSON lacks

log = logging.getLogger(__name__)


@dataclass
class Rows:
    """The windows' side of decoding: W rows in record order, offsets laid end to end.

    `record`, `window`: int (W,); `first_token`: (W + 1,), where a row's offsets begin in `offset_start` and
    `offset_end` (characters, 0 for special tokens).
    """

    record: np.ndarray
    window: np.ndarray
    first_token: np.ndarray
    offset_start: np.ndarray
    offset_end: np.ndarray

    @classmethod
    def of(cls, windows: Any) -> "Rows":
        """Take the columns of a windows dataset as arrays, without a loop over rows."""
        import pyarrow as pa

        table = windows.data.table
        lists = {name: pa.concat_arrays(table.column(name).chunks) for name in ("offset_start", "offset_end")}
        return cls(
            table.column("record").to_numpy(),
            table.column("window").to_numpy(),
            lists["offset_start"].offsets.to_numpy(),
            lists["offset_start"].values.to_numpy(),
            lists["offset_end"].values.to_numpy(),
        )

    def characters(self, row: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and past-the-last character of the tokens [start, end] of rows; 0 for a place in the padding."""

        def lookup(offsets: np.ndarray, place: np.ndarray) -> np.ndarray:
            length = self.first_token[row + 1] - self.first_token[row]
            inside = (place >= 0) & (place < length)
            return np.where(inside, offsets[np.where(inside, self.first_token[row] + place, 0)], 0)

        return lookup(self.offset_start, start), lookup(self.offset_end, end)


@dataclass
class Candidates:
    """Spans of text in order of record, best first: arrays of equal length, and each record's null score.

    `record`: int; `start`, `stop`: characters of the context; `score`: float64, start plus end logit; `null_score`:
    float64 (records,), the least over the record's windows.
    """

    record: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    score: np.ndarray
    null_score: np.ndarray


def null_scores(spans: Spans, rows: Rows, records: int) -> np.ndarray:
    """Null score of each record, the least over its windows: float64 (records,). After the official run_squad rule."""
    scores = np.full(records, np.inf)
    np.minimum.at(scores, rows.record, spans.null_score.astype(np.float64))
    return scores


def n_best(spans: Spans, rows: Rows, records: int, size: int, max_answer_length: int) -> Candidates:
    """The best joint spans of each record over its windows: start plus end logit, end >= start, length in tokens.

    A span that several windows show counts once, with its best score; spans without characters are left out. At most
    `size` a record. After the n-best decoding of BERT's run_squad.py (Devlin et al. 2019), vectorised.
    """
    step = max(1, PAIRS // spans.candidates**2)  # windows
    found = [
        _chunk_spans(spans, rows, slice(first, first + step), size, max_answer_length)
        for first in range(0, len(spans), step)
    ]
    record, start, stop, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((-score, stop, start, record))
    record, start, stop, score = (values[order] for values in (record, start, stop, score))
    repeated = np.zeros(len(record), bool)
    repeated[1:] = (record[1:] == record[:-1]) & (start[1:] == start[:-1]) & (stop[1:] == stop[:-1])
    kept = np.flatnonzero(~repeated)
    kept = kept[np.lexsort((stop[kept], start[kept], -score[kept], record[kept]))]
    first_of_record = np.searchsorted(record[kept], np.arange(records))
    rank = np.arange(len(kept)) - first_of_record[record[kept]]
    kept = kept[rank < size]
    return Candidates(record[kept], start[kept], stop[kept], score[kept], null_scores(spans, rows, records))


def _chunk_spans(spans: Spans, rows: Rows, part: slice, size: int, longest: int) -> tuple[np.ndarray, ...]:
    """Record, first character, past-the-last character and score of the best `size` spans of each window of a part."""
    start, end = spans.start_index[part, :, None], spans.end_index[part, None, :]
    score = spans.start_logit[part, :, None].astype(np.float64) + spans.end_logit[part, None, :]
    allowed = (start >= 0) & (end >= start) & (end - start < longest)
    windows = np.arange(*part.indices(len(spans)))
    # Spans without characters leave before the best are chosen, or they would crowd out real ones.
    at = np.broadcast_to(windows[:, None, None], score.shape)
    first, stop = rows.characters(at, np.broadcast_to(start, score.shape), np.broadcast_to(end, score.shape))
    score = np.where(allowed & (stop > first), score, -np.inf).reshape(len(windows), -1)
    best = np.argsort(-score, axis=1, kind="stable")[:, :size]
    window, flat = np.broadcast_to(np.arange(len(windows))[:, None], best.shape), best
    real = np.isfinite(score[window, flat])
    window, flat = window[real], flat[real]
    first, stop = first.reshape(len(windows), -1)[window, flat], stop.reshape(len(windows), -1)[window, flat]
    return rows.record[windows[window]], first, stop, score[window, flat]


def walkthrough(spans: Spans, rows: Rows, records: int) -> Candidates:
    """The published walkthrough's decoding: argmax of starts and of ends over the whole row, kept if end > start.

    It reads the first window of each record only, the context cut to one row. The offsets of question tokens are used
    as if they were the context's, and those of special tokens and padding are 0, as there.
    """
    chosen = np.flatnonzero((rows.window == 0) & (spans.row_end_index > spans.row_start_index))
    start, stop = rows.characters(chosen, spans.row_start_index[chosen], spans.row_end_index[chosen])
    score = spans.row_start_logit[chosen].astype(np.float64) + spans.row_end_logit[chosen]
    first = rows.window == 0
    null = np.full(records, np.inf)
    null[rows.record[first]] = spans.null_score[first]
    return Candidates(rows.record[chosen], start, stop, score, null)


@dataclass
class Answered:
    """One question's result: the answer ("" for none), the null score minus the best span's score, and candidates.

    A candidate has text, start and stop (characters of the context), score, probability. The probabilities and
    `null_probability` are a softmax over the scores of the candidates and the null score.
    """

    id: str
    answer: str
    null_score_difference: float
    null_score: float
    null_probability: float
    candidates: list[dict[str, Any]]


def answer(candidates: Candidates, records: Iterator[tuple[str, str]], threshold: float) -> Iterator[Answered]:
    """Turn candidates into each record's result; `records` yields (id, context) in record order.

    No answer where null score - best score > `threshold` or there is no candidate (the official null rule).
    """
    bounds = np.searchsorted(candidates.record, np.arange(len(candidates.null_score) + 1))
    for number, (identity, context) in enumerate(records):
        part = slice(bounds[number], bounds[number + 1])
        null, scores = candidates.null_score[number], candidates.score[part]
        every = np.exp(np.append(scores, null) - max(null, scores.max(initial=-np.inf)))
        every /= every.sum()
        listed = [
            {"text": context[a:b], "start": int(a), "stop": int(b), "score": float(score), "probability": float(share)}
            for a, b, score, share in zip(candidates.start[part], candidates.stop[part], scores, every, strict=False)
        ]
        difference = float(null - (scores[0] if len(scores) else NO_SPAN))
        text = listed[0]["text"] if listed and difference <= threshold else ""
        yield Answered(identity, text, difference, float(null), float(every[-1]), listed)


def postprocess(
    spans_file: str | Path,
    windows_folder: str | Path,
    records_file: str | Path,
    decoding: dict[str, Any],
    outputs: dict[str, str],
) -> None:
    """Decode a member's spans by one decoding of the configuration.

    Writes `answers` {id: text} and `null_scores` {id: null score minus best span's score}, both the official script's
    formats, and `nbest`, a JSON line a question. Raises InputError when spans and windows are not of the same rows.
    """
    spans, rows = Spans.read(spans_file), Rows.of(load_windows(windows_folder))
    if len(spans) != len(rows.record):
        raise InputError(
            f"{spans_file}: spans of {len(spans):,} windows, where {windows_folder} has {len(rows.record):,}; remove "
            "the file and run again"
        )
    records = number_of_records(records_file)
    if decoding["method"] == "walkthrough":
        found, threshold = walkthrough(spans, rows, records), np.inf  # it has no null rule
    else:
        found = n_best(spans, rows, records, decoding["n_best_size"], decoding["max_answer_length"])
        threshold = decoding["null_threshold"]
    answers, differences = {}, {}
    with written_aside(outputs["nbest"]) as aside, open(aside, "w", encoding="utf-8") as stream:
        for result in answer(found, contexts(records_file), threshold):
            answers[result.id] = result.answer
            differences[result.id] = result.null_score_difference
            line = {
                "id": result.id,
                "null_score": result.null_score,
                "null_probability": result.null_probability,
                "candidates": result.candidates,
            }
            stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    write_json(outputs["answers"], answers)
    write_json(outputs["null_scores"], differences)
    log.info(f"{sum(map(bool, answers.values())):,} of {len(answers):,} questions answered")


def number_of_records(records_file: str | Path) -> int:
    """Questions in a records file, read from its footer."""
    import pyarrow.parquet as parquet

    return parquet.read_metadata(records_file).num_rows


def contexts(records_file: str | Path) -> Iterator[tuple[str, str]]:
    """Yield (id, context) of a records file in order, a batch in memory at a time."""
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(records_file) as file:
        for batch in file.iter_batches(columns=["id", "context"]):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
