"""Answers: what candidates' scores decide for each question, and the files that say so."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.errors import broken
from qa.common.files import write_json, written_aside
from qa.common.parquet import opened
from qa.common.progress import Progress
from qa.decoding.probabilities import softmax

NUMBERS = ("score", "probability", "null_score", "null_probability")  # of n-best lists, the first two a candidate's
BATCH = 2_000  # questions whose contexts are in memory at once
NO_SPAN = -1.0e6  # stands for the best score of a question without any span, in place of -inf, which JSON lacks


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


@dataclass
class Decision:
    """What the scores of candidates say of n records.

    `bounds`: int (n + 1,), where each record's candidates begin; `difference`: float64 (n,), the null score minus the
    best span's; `answered`: bool (n,); `probability`: float64, one a candidate, and `null_probability`: float64 (n,),
    together a softmax over the scores of a record's candidates and its null score.
    """

    bounds: np.ndarray
    difference: np.ndarray
    answered: np.ndarray
    probability: np.ndarray
    null_probability: np.ndarray


def decide(candidates: Candidates, threshold: float, temperature: float | None = None) -> Decision:
    """Weigh each record's candidates against null, all records at once.

    No answer where null score - best score > `threshold` or there is no candidate (the official null rule). With
    a `temperature` probabilities are calibrated: null scores are less by `threshold`, where it is finite, since it says
    that they are too high by so much, and all scores are divided by `temperature`. What is decided is then what is most
    probable.
    """
    record, score, null = candidates.record, candidates.score, candidates.null_score
    bounds = np.searchsorted(record, np.arange(len(null) + 1))
    some = np.flatnonzero(np.diff(bounds))
    best = np.full(len(null), -np.inf)
    best[some] = score[bounds[some]]
    difference = null - np.where(best > -np.inf, best, NO_SPAN)
    answered = (difference <= threshold) & (best > -np.inf)
    if temperature is not None and np.isfinite(threshold):
        null = null - threshold
    return Decision(bounds, difference, answered, *softmax(score, record, null, temperature or 1.0))


def nbest_table(
    candidates: Candidates, decision: Decision, first: int, ids: Sequence[str], contexts: Sequence[str]
) -> Any:
    """The n-best lists of the records from number `first` on, whose ids and contexts are given: a `pyarrow.Table`.

    Columns: id, null_score, null_probability, and candidates, a list of text, start, stop (characters of the context),
    score and probability, best first.
    """
    import pyarrow as pa

    records, bounds = slice(first, first + len(ids)), decision.bounds[first : first + len(ids) + 1]
    part = slice(bounds[0], bounds[-1])
    places = zip(candidates.start[part].tolist(), candidates.stop[part].tolist(), strict=True)
    sizes = np.diff(bounds).tolist()
    texts = [context[a:b] for context, size in zip(contexts, sizes, strict=True) for a, b in islice(places, size)]
    columns = {
        "text": _texts(texts),
        "start": _numbers(candidates.start[part].astype(np.int32)),
        "stop": _numbers(candidates.stop[part].astype(np.int32)),
        "score": _numbers(candidates.score[part]),
        "probability": _numbers(decision.probability[part]),
    }
    listed = pa.StructArray.from_arrays(list(columns.values()), list(columns))
    rows = {
        "id": _texts(ids),
        "null_score": _numbers(candidates.null_score[records]),
        "null_probability": _numbers(decision.null_probability[records]),
        "candidates": pa.ListArray.from_arrays(_numbers((bounds - bounds[0]).astype(np.int32)), listed),
    }
    return pa.Table.from_arrays(list(rows.values()), list(rows))


def _numbers(values: np.ndarray) -> Any:
    """An Arrow array of int32 or float64 values, not by `pyarrow.array`, which takes pandas' time to import."""
    import pyarrow as pa

    kind = pa.int32() if values.dtype == np.int32 else pa.float64()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _texts(texts: Sequence[str]) -> Any:
    """An Arrow array of texts; see `_numbers`."""
    import pyarrow as pa

    joined = "".join(texts)
    sizes = map(len, texts if joined.isascii() else map(str.encode, texts))
    bounds = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(sizes, np.int32, len(texts)), out=bounds[1:])
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(joined.encode())]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def write_answers(
    candidates: Candidates, decision: Decision, records_file: str | Path, outputs: dict[str, str]
) -> dict[str, str]:
    """Write `answers`, `null_scores` and `nbest` of a records file's questions; return the answers by id."""
    import pyarrow.parquet as parquet

    answers: dict[str, str] = {}
    first, progress = 0, Progress("answer", len(candidates.null_score), "questions")
    schema = nbest_table(candidates, decision, 0, [], []).schema
    options = {"compression": "snappy", "use_dictionary": False}
    with (
        written_aside(outputs["nbest"]) as aside,
        parquet.ParquetWriter(aside, schema, **options) as file,
        ThreadPoolExecutor(1) as writer,  # Arrow writes while the next questions' texts are cut
    ):
        writing = None
        for ids, contexts in _contexts(records_file):
            table = nbest_table(candidates, decision, first, ids, contexts)
            if writing:
                writing.result()
            writing = writer.submit(file.write_table, table)
            answers.update(zip(ids, best_texts(candidates, decision, first, contexts), strict=True))
            first += len(ids)
            progress.reach(first)
        if writing:
            writing.result()
    write_json(outputs["answers"], answers, flat=True)
    write_json(outputs["null_scores"], dict(zip(answers, decision.difference.tolist(), strict=True)), flat=True)
    return answers


@dataclass
class Listed:
    """N-best lists of n questions: `best`, the first candidate's text by id, "" where there is none.

    `bounds`: int (n + 1,), where each question's candidates begin in `score` and `probability`, float64;
    `null_score`, `null_probability`: float64 (n,).
    """

    best: dict[str, str]
    bounds: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    null_score: np.ndarray
    null_probability: np.ndarray


def read_nbest(nbest_file: str | Path) -> Listed:
    """What `write_answers` wrote, without the texts of lesser candidates.

    Raises InputError for a file that is broken or holds something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(nbest_file) as file:
            best: dict[str, str] = {}
            sizes, columns = [np.zeros(1, np.int64)], {name: [np.zeros(0)] for name in NUMBERS}
            names = [f"candidates.list.element.{name}" for name in ("text", *NUMBERS[:2])]
            for batch in file.iter_batches(BATCH, columns=["id", *names, *NUMBERS[2:]]):
                listed = batch.column("candidates")
                texts, bounds = listed.values.field("text").to_pylist(), listed.offsets.to_pylist()
                first = [texts[a] if a < b else "" for a, b in pairwise(bounds)]
                best.update(zip(batch.column("id").to_pylist(), first, strict=True))
                sizes.append(np.diff(bounds))
                for name in NUMBERS:
                    values = listed.values.field(name) if name in NUMBERS[:2] else batch.column(name)
                    columns[name].append(np.from_dlpack(values))
            numbers = {name: np.concatenate(columns.pop(name)) for name in NUMBERS}  # not both forms of all at once
            return Listed(best, np.cumsum(np.concatenate(sizes)), **numbers)
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise broken(nbest_file, "n-best lists", error) from None


def best_texts(candidates: Candidates, decision: Decision, first: int, contexts: Sequence[str]) -> list[str]:
    """The answer to each record from number `first` on, whose contexts are given; "" for none."""
    records = np.arange(first, first + len(contexts))
    answered = decision.answered[records]
    best = decision.bounds[records[answered]]
    found = [""] * len(contexts)
    for place, a, b in zip(np.flatnonzero(answered), candidates.start[best], candidates.stop[best], strict=True):
        found[place] = contexts[place][a:b]
    return found


def _contexts(records_file: str | Path) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the ids and the contexts of a records file in order, a batch in memory at a time."""

    with opened(records_file, read_dictionary=["context"]) as file:
        for batch in file.iter_batches(BATCH, columns=["id", "context"]):
            ids, contexts = batch.columns
            distinct = contexts.dictionary.to_pylist()
            yield ids.to_pylist(), [distinct[place] for place in contexts.indices.to_pylist()]
