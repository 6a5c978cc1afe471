"""Decoding: from the best starts and ends of windows to answers in text. NumPy only, no torch."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.errors import InputError
from qa.common.files import read_json
from qa.common.progress import Progress
from qa.data.read_records import number_of_records
from qa.decoding.answers import Candidates, decide, write_answers
from qa.decoding.ensembles import average
from qa.model.spans import Spans
from qa.windows.read_windows import arrow_table

PAIRS = 64_000  # starts by ends whose joint scores are in memory at once: what fits a processor's cache
BLOCK = 50_000  # windows whose spans are compared at once
COLUMNS = ("record", "window", "offset_start", "offset_end")

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
    def of(cls, table: Any) -> "Rows":
        """Take the columns of a table of windows (see rows.arrow_table) as arrays, without a loop over rows."""
        import pyarrow as pa

        columns = {name: pa.concat_arrays(table.column(name).chunks) for name in COLUMNS}
        first_token = columns["offset_start"].offsets
        columns |= {name: columns[name].values for name in ("offset_start", "offset_end")}
        # not to_numpy, which imports pandas
        return cls(first_token=np.from_dlpack(first_token), **{n: np.from_dlpack(c) for n, c in columns.items()})

    def part(self, begin: int, end: int) -> "Rows":
        """The rows from number `begin` up to, but without, number `end`."""
        tokens = self.first_token[begin : end + 1]
        inside = slice(tokens[0], tokens[-1])
        offsets = self.offset_start[inside], self.offset_end[inside]
        return Rows(self.record[begin:end], self.window[begin:end], tokens - tokens[0], *offsets)

    def characters(self, row: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First character of the tokens `start` and past-the-last of the tokens `end` of rows; 0 beyond a row's tokens.

        `start` and `end` broadcast with `row`.
        """
        begin, beyond = self.first_token[row], self.first_token[row + 1]

        def lookup(offsets: np.ndarray, place: np.ndarray) -> np.ndarray:
            token = begin + place
            inside = (place >= 0) & (token < beyond)
            return np.where(inside, offsets[np.where(inside, token, 0)], 0)

        return lookup(self.offset_start, start), lookup(self.offset_end, end)


def _array(table: Any, name: str) -> np.ndarray:
    """A column of numbers; not by to_numpy, which imports pandas."""
    import pyarrow as pa

    return np.from_dlpack(pa.concat_arrays(table.column(name).chunks))


class TableRows:
    """`Rows` of a table whose offsets are read part by part: those of a million rows would be gigabytes."""

    def __init__(self, table: Any):
        self.table = table
        self.record, self.window = (_array(table, name) for name in ("record", "window"))

    def part(self, begin: int, end: int) -> Rows:
        """Some of them, as Rows."""
        return Rows.of(self.table.slice(begin, end - begin))

    def characters(self, *places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Rows.characters`, of all at once."""
        return Rows.of(self.table).characters(*places)


def null_scores(spans: Spans, rows: Rows | TableRows, records: int) -> np.ndarray:
    """Null score of each record, the least over its windows: float64 (records,). After the official run_squad rule."""
    scores = np.full(records, np.inf)
    np.minimum.at(scores, rows.record, spans.null_score.astype(np.float64))
    return scores


def n_best(spans: Spans, rows: Rows | TableRows, records: int, size: int, max_answer_length: int) -> Candidates:
    """The best joint spans of each record over its windows: start plus end logit, end >= start, length in tokens.

    A span that several windows show counts once, with its best score; spans without characters are left out. At most
    `size` a record. After the n-best decoding of BERT's run_squad.py (Devlin et al. 2019), vectorised.
    """
    step = max(1, PAIRS // spans.candidates**2)  # windows
    found: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] for _ in range(3)] + [[np.zeros(0)]]
    progress = Progress("decode", len(spans), "windows")
    for begin, end in _blocks(rows.record):
        parts, block = [], rows.part(begin, end)
        for first in range(begin, end, step):
            last = min(first + step, end)
            parts.append(_chunk_spans(spans, slice(first, last), block, first - begin, size, max_answer_length))
            progress.reach(last)
        best = _best_of_records(*map(np.concatenate, zip(*parts, strict=True)), size)
        for column, values in zip(found, best, strict=True):
            column.append(values)
    columns = [np.concatenate(found.pop(0)) for _ in range(4)]  # one by one, since both forms are large
    return Candidates(*columns, null_scores(spans, rows, records))


def _blocks(record: np.ndarray) -> Iterator[tuple[int, int]]:
    """Bounds of some thousand windows each, with all windows of their records: so many are in memory at once."""
    begin = 0
    while begin < len(record):
        end = int(np.searchsorted(record, record[min(begin + BLOCK, len(record)) - 1], "right"))
        yield begin, end
        begin = end


def _best_of_records(
    record: np.ndarray, start: np.ndarray, stop: np.ndarray, score: np.ndarray, size: int
) -> tuple[np.ndarray, ...]:
    """The `size` best distinct spans of each record among those of its windows, best first."""
    # one number a span, ordered by record, start and stop, whose sorting takes a tenth of a lexsort's time
    span = (record * (start.max(initial=0) + 1) + start) * ((stop - start).max(initial=0) + 1) + stop - start
    order = np.argsort(span, kind="stable")
    first_of_span = np.flatnonzero(np.diff(span[order], prepend=-1))
    order, score = order[first_of_span], _greatest_of_runs(score[order], first_of_span)
    record = record[order]
    _, rank = np.unique(-score, return_inverse=True)
    best = np.argsort(record * (len(score) + 1) + rank, kind="stable")  # equals stay in the order of start and stop
    best = best[np.arange(len(best)) - np.searchsorted(record, record) < size]
    order = order[best]
    return record[best], start[order], stop[order], score[best]


def _chunk_spans(spans: Spans, part: slice, rows: Rows, row: int, size: int, longest: int) -> tuple[np.ndarray, ...]:
    """Record, first character, past-the-last character and score of the best `size` spans of each window of a part.

    The part's first window is `row` of the rows. Among equal scores at the end of a window's list, those of better
    starts, then of better ends, come in.
    """
    windows = row + np.arange(part.stop - part.start)
    start, end = spans.start_index[part], spans.end_index[part]
    first, stop = rows.characters(windows[:, None], start, end)
    length = end[:, None, :] - start[:, :, None]
    # Spans without characters leave before the best are chosen, or they would crowd out real ones.
    allowed = (length >= 0) & (length < longest) & (start >= 0)[:, :, None] & (stop[:, None, :] > first[:, :, None])
    window, i, j = _greatest_pairs(spans.start_logit[part], spans.end_logit[part], allowed, size)
    score = spans.start_logit[part][window, i].astype(np.float64) + spans.end_logit[part][window, j]
    found = (rows.record[windows[window]], first[window, i], stop[window, j])
    return (*(values.astype(np.int64) for values in found), score)


def _greatest_pairs(
    start: np.ndarray, end: np.ndarray, allowed: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window, start and end of the `size` greatest finite sums of each window; the first pairs among equals.

    `start`, `end`: float32 (W, k); `allowed`: bool (W, k, k), which pairs count.
    """
    windows, k = start.shape
    rough = start[:, :, None] + end[:, None, :]  # in float32, so that sums which differ a little may come out equal
    rough = np.where(allowed & np.isfinite(rough), rough, -np.inf).reshape(windows, -1)
    if size < k * k:
        least = np.partition(rough, -size, axis=1)[:, [-size]]
        chosen = (rough >= np.nextafter(least, np.float32(-np.inf))) & (rough > -np.inf)
        crowded = np.flatnonzero(chosen.sum(axis=1) > size)
        exact = start[crowded, :, None].astype(np.float64) + end[crowded, None, :]
        exact = np.where(chosen[crowded], exact.reshape(-1, k * k), -np.inf)
        order = np.argsort(-exact, axis=1, kind="stable")[:, :size]
        chosen[crowded] = False
        chosen[crowded[:, None], order] = True
    else:
        chosen = rough > -np.inf
    window, pair = np.divmod(np.flatnonzero(chosen), k * k)
    return window, *np.divmod(pair, k)


def _greatest_of_runs(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The greatest value of each run; `first` are the places where runs begin."""
    return np.maximum.reduceat(values, first) if len(first) else values


def walkthrough(spans: Spans, rows: Rows | TableRows, records: int) -> Candidates:
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


def decoded(spans: Spans, rows: Rows | TableRows, records: int, decoding: dict[str, Any]) -> Candidates:
    """What a decoding of the configuration finds in the spans of so many questions."""
    if decoding["method"] == "walkthrough":
        return walkthrough(spans, rows, records)
    return n_best(spans, rows, records, decoding["n_best_size"], decoding["max_answer_length"])


def candidates_of(
    spans_files: Sequence[str], windows_folders: Sequence[str], records: int, decoding: dict[str, Any]
) -> Candidates:
    """What a decoding finds in the spans of a variant for so many questions, or of an ensemble's variants, averaged.

    Raises InputError when spans and windows are not of the same rows, and for scores that are no finite numbers.
    """
    found = []
    for spans_file, windows_folder in zip(spans_files, windows_folders, strict=True):
        spans, rows = Spans.read(spans_file), TableRows(arrow_table(windows_folder, COLUMNS))
        _check(spans, rows, spans_file, windows_folder)
        found.append(decoded(spans, rows, records, decoding))
    return found[0] if len(found) == 1 else average(found, decoding["n_best_size"])


def _check(spans: Spans, rows: Rows | TableRows, spans_file: str, windows_folder: str) -> None:
    if len(spans) != len(rows.record):
        raise InputError(
            f"{spans_file}: spans of {len(spans):,} windows, where {windows_folder} has {len(rows.record):,}; remove "
            "the file and run again"
        )
    logits = (spans.null_score, spans.row_start_logit, spans.row_end_logit)
    if not all(np.isfinite(values).all() for values in logits):
        raise InputError(
            f"{spans_file}: scores that are no finite numbers: did the training diverge (see its training.csv), or is "
            "prediction's precision too low?"
        )


def postprocess(
    spans_files: Sequence[str],
    windows_folders: Sequence[str],
    records_file: str | Path,
    decoding: dict[str, Any],
    outputs: dict[str, str],
    calibration_file: str | Path | None = None,
) -> None:
    """Decode a variant's spans, or those of an ensemble's variants, by one decoding of the configuration.

    Writes `answers` {id: text} and `null_scores` {id: null score minus best span's score}, both the official script's
    formats, and `nbest`, a row a question (see answers.nbest_table). A calibrated decoding takes threshold and
    temperature from `calibration_file`. For what is raised see `candidates_of`.
    """
    found = candidates_of(spans_files, windows_folders, number_of_records(records_file), decoding)
    threshold, temperature = decoding.get("null_threshold", np.inf), None  # the walkthrough has no null rule
    if calibration_file is not None:
        calibrated = read_json(calibration_file)
        threshold, temperature = calibrated["null_threshold"], calibrated["temperature"]
    answers = write_answers(found, decide(found, threshold, temperature), records_file, outputs)
    log.info(f"{sum(map(bool, answers.values())):,} of {len(answers):,} questions answered")
