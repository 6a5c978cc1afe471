"""Distillation: a teacher's answers become soft start and end targets for a student's windows. NumPy, no torch."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from qa.common.files import written_aside
from qa.decoding.answers import Candidates, decide
from qa.decoding.postprocess import candidates_of
from qa.windows.labels import NONE, exact_labels
from qa.windows.ranges import bounds_of, concatenated_ranges
from qa.windows.read_windows import TokenOffsets, arrow_table
from qa.windows.tokenizer import EncodedTexts

COLUMNS = ("record", "offset_start", "offset_end", "context_start", "context_stop", "null_position")
TEACHER = {"method": "n_best", "n_best_size": 20, "max_answer_length": 30}  # the teacher's candidates
PLACES = TEACHER["n_best_size"] + 1  # and the null answer

log = logging.getLogger(__name__)


def write_targets(spans_files: list[str], student_windows: str | Path, temperature: float, target: str | Path) -> None:
    """Write a row of soft targets for each of a student's windows, from the spans of a teacher or of its variants.

    The Parquet file has the columns that `soft_targets` returns, each a list of PLACES.
    """
    found = candidates_of(spans_files, TEACHER)
    table = arrow_table(student_windows, COLUMNS)
    windows = {name: table.column(name).to_numpy() for name in COLUMNS[3:]}
    targets = soft_targets(found, TokenOffsets.of(table), windows, temperature)
    arrays = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), PLACES) for name, values in targets.items()
    }
    with written_aside(target) as partial:
        parquet.write_table(pa.table(arrays), partial, compression="zstd")
    no_answer = targets["start_weights"][:, 0].mean()
    log.info(f"soft targets of {table.num_rows:,} windows; the mean weight of no answer is {no_answer:.2f}")


def soft_targets(
    candidates: Candidates, rows: TokenOffsets, windows: dict[str, np.ndarray], temperature: float
) -> dict[str, np.ndarray]:
    """The teacher's distributions over the start and the end tokens of each window, at a temperature.

    A span's probability is a softmax over the candidates and the null answer of its record, with scores divided by
    `temperature`. The first and the last token of the span get that probability, by the rule of labels, if the window
    holds the whole span. The null position gets the rest. `windows` has `context_start`, `context_stop` (tokens) and
    `null_position` of each of W rows.

    Returns `start_places` and `end_places`, int32 (W, PLACES), tokens of the window with the null position first, and
    `start_weights` and `end_weights`, float32 of that shape, which sum to 1 in each row. The method is that of Hinton,
    Vinyals and Dean 2015, over characters, so teacher and student may have different tokenizers.
    """
    decision = decide(candidates, np.inf, temperature)
    counts = np.diff(decision.bounds)[rows.record]
    window = np.repeat(np.arange(len(rows.record)), counts)
    candidate = concatenated_ranges(decision.bounds[rows.record], counts)
    labels = _labels(rows, windows, window, candidates.start[candidate], candidates.stop[candidate])
    held = labels[:, 0] != NONE
    window, candidate = window[held], candidate[held]
    tokens = labels[held] + windows["context_start"][window, None]
    rank = 1 + np.arange(len(window)) - np.searchsorted(window, window)
    shape = (len(rows.record), PLACES)
    weights = np.zeros(shape)
    weights[window, rank] = decision.probability[candidate]
    weights[:, 0] = np.maximum(0.0, 1.0 - weights[:, 1:].sum(axis=1))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    targets = {}
    for name, place in zip(("start", "end"), tokens.T, strict=True):
        places = np.repeat(windows["null_position"].astype(np.int32)[:, None], PLACES, axis=1)
        places[window, rank] = place
        targets |= {f"{name}_places": places, f"{name}_weights": weights}
    return targets


def _labels(
    rows: TokenOffsets, windows: dict[str, np.ndarray], window: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """The `exact_labels` of the characters [start, stop) in the context tokens of each `window`: int64 (spans, 2).

    NONE where the window does not hold all of these characters.
    """
    sizes = windows["context_stop"] - windows["context_start"]
    tokens = concatenated_ranges(rows.first_token[:-1] + windows["context_start"], sizes)
    contexts = EncodedTexts(tokens, rows.offset_start[tokens], rows.offset_end[tokens], bounds_of(sizes))
    wide = np.flatnonzero(contexts.stop > contexts.start)
    owner = np.repeat(np.arange(len(contexts)), contexts.lengths)[wide]
    low, high = np.full(len(contexts), np.iinfo(np.int64).max), np.zeros(len(contexts), np.int64)
    np.minimum.at(low, owner, contexts.start[wide])
    np.maximum.at(high, owner, contexts.stop[wide])
    labels = exact_labels(contexts, window, start, stop)
    labels[(start < low[window]) | (stop > high[window])] = NONE
    return labels
