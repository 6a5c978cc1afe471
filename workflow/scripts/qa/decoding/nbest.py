"""N-best lists on disk: a row a question, with the question itself, so that scoring opens no other file of questions.

Columns of nbest.parquet: `id`, `title`, `question`, `context`; `gold`, a list of text and start (characters of the
context); `windows`, how many the question has; `null_score`, `null_probability`; `candidates`, a list of text, start,
stop, score and probability, best first. Answers of another system have no scores and maybe no probabilities (NaN), no
windows (-1), and no start and stop (-1) where the text does not stand in the context.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from qa.common.parquet import opened
from qa.decoding.answers import Candidates, Decision

BATCH = 2_000  # questions whose contexts are in memory at once
QUESTION = ("id", "title", "question", "context")
OF_CANDIDATE, OF_QUESTION = ("score", "probability"), ("null_score", "null_probability")


@dataclass
class NBest:
    """N-best lists of n questions, without the texts of lesser candidates.

    `titles`: (n,); `golds`: gold answers by id; `best`: the first candidate's text by id, "" where there is none.
    `bounds`: int (n + 1,), where each question's candidates begin in `score` and `probability`, float64; `null_score`,
    `null_probability`: float64 (n,).
    """

    titles: list[str]
    golds: dict[str, list[str]]
    best: dict[str, str]
    bounds: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    null_score: np.ndarray
    null_probability: np.ndarray


def batches_of_questions(questions_file: str | Path) -> Iterator[Any]:
    """Yield the questions of a file as `pyarrow.RecordBatch`, each context once a batch. Raises as parquet.opened."""
    with opened(questions_file, read_dictionary=["title", "context"]) as file:
        yield from _batches(file, [*QUESTION, "answers"])


def texts_of(
    candidates: Candidates, decision: Decision, part: slice, contexts: Any, given: Sequence[str] | None = None
) -> tuple[list[str], list[int]]:
    """The texts of all candidates of some questions, and the place of each question's first one among them.

    `contexts`: the questions' contexts, a dictionary array; `given`: the texts of the candidates of all questions, if
    they are not cut out of contexts.
    """
    bounds = decision.bounds[part.start : part.stop + 1]
    spans = slice(bounds[0], bounds[-1])
    if given is not None:
        return list(given[spans]), (bounds[:-1] - bounds[0]).tolist()
    distinct = contexts.dictionary.to_pylist()
    places = zip(candidates.start[spans].tolist(), candidates.stop[spans].tolist(), strict=True)
    sizes = zip(contexts.indices.to_pylist(), np.diff(bounds).tolist(), strict=True)
    texts = [distinct[context][a:b] for context, size in sizes for a, b in islice(places, size)]
    return texts, (bounds[:-1] - bounds[0]).tolist()


def table(candidates: Candidates, decision: Decision, part: slice, questions: Any, texts: Sequence[str]) -> Any:
    """The n-best lists of a batch of questions, whose numbers are `part`, with their `texts_of`: a `pyarrow.Table`."""
    bounds = decision.bounds[part.start : part.stop + 1]
    spans = slice(bounds[0], bounds[-1])
    columns = {
        "text": text_array(texts),
        "start": number_array(candidates.start[spans].astype(np.int32)),
        "stop": number_array(candidates.stop[spans].astype(np.int32)),
        "score": number_array(candidates.score[spans]),
        "probability": number_array(decision.probability[spans]),
    }
    structs = pa.StructArray.from_arrays(list(columns.values()), list(columns))
    rows = {name: questions.column(name) for name in QUESTION}
    rows |= {
        "gold": _golds(questions.column("answers")),
        "windows": number_array(candidates.windows[part].astype(np.int32)),
        "null_score": number_array(candidates.null_score[part]),
        "null_probability": number_array(decision.null_probability[part]),
        "candidates": pa.ListArray.from_arrays(number_array((bounds - bounds[0]).astype(np.int32)), structs),
    }
    return pa.Table.from_arrays(list(rows.values()), list(rows))


def _golds(answers: Any) -> Any:
    """Gold answers as lists of text and start, from a struct of two lists."""
    texts, starts = answers.field("text"), answers.field("answer_start")
    spans = pa.StructArray.from_arrays([texts.values, starts.values], ["text", "start"])
    return pa.ListArray.from_arrays(texts.offsets, spans)


def question_fields() -> list[tuple[str, Any]]:
    """Names and Arrow types of the columns that hold the question itself."""
    texts = pa.dictionary(pa.int32(), pa.string())  # each context once
    gold = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())]))
    return [("id", pa.string()), ("title", texts), ("question", pa.string()), ("context", texts), ("gold", gold)]


@contextmanager
def writer(path: str | Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` of nbest.parquet, closed after the block."""
    number = pa.float64()
    span = [("text", pa.string()), ("start", pa.int32()), ("stop", pa.int32())]
    candidates = pa.list_(pa.struct([*span, *((name, number) for name in OF_CANDIDATE)]))
    numbers = [("windows", pa.int32()), *((name, number) for name in OF_QUESTION)]
    schema = pa.schema([*question_fields(), *numbers, ("candidates", candidates)])
    options = {"compression": "snappy", "use_dictionary": ["title", "context"]}
    with parquet.ParquetWriter(path, schema, **options) as file:
        yield file


def read_nbest(nbest_file: str | Path) -> NBest:
    """Read nbest.parquet but for the texts of questions, contexts and lesser candidates. Raises as `batches`."""
    names = [f"candidates.list.element.{name}" for name in ("text", *OF_CANDIDATE)]
    titles: list[str] = []
    golds: dict[str, list[str]] = {}
    best: dict[str, str] = {}
    sizes = [np.zeros(1, np.int64)]
    numbers = {name: [np.zeros(0)] for name in (*OF_CANDIDATE, *OF_QUESTION)}
    for batch in batches(nbest_file, ["id", "title", "gold", *names, *OF_QUESTION]):
        ids = batch.column("id").to_pylist()
        titles += batch.column("title").to_pylist()
        golds.update(zip(ids, golds_of(batch), strict=True))
        candidates, bounds = values_and_bounds(batch.column("candidates"))
        best.update(zip(ids, _first_texts(candidates.field("text"), bounds), strict=True))
        sizes.append(np.diff(bounds))
        for name, parts in numbers.items():
            column = candidates.field(name) if name in OF_CANDIDATE else batch.column(name)
            parts.append(np.from_dlpack(column).copy())  # a view would keep all that was read beside it
    columns = {name: np.concatenate(numbers.pop(name)) for name in list(numbers)}  # not both forms of all at once
    return NBest(titles, golds, best, np.cumsum(np.concatenate(sizes)), **columns)


def _first_texts(texts: Any, bounds: np.ndarray) -> Iterator[str]:
    """The first of each list of texts, "" of an empty one; text array, and int (n + 1,) where each list begins."""
    filled = np.diff(bounds) > 0
    first = iter(texts.take(number_array(bounds[:-1][filled].astype(np.int32))).to_pylist())
    return (next(first) if some else "" for some in filled.tolist())


def batches(path: str | Path, columns: Sequence[str], what: str = "n-best lists") -> Iterator[Any]:
    """Yield some columns of a file as `pyarrow.RecordBatch`, each context once a batch.

    Raises InputError, which names `what` cannot be read, for a file that is broken or lacks a column.
    """
    with opened(path, what) as file:
        if missing := {name.partition(".")[0] for name in columns} - set(file.schema_arrow.names):
            raise KeyError(f"no column {min(missing)}")
        yield from _batches(file, columns)


def _batches(file: Any, columns: Sequence[str]) -> Iterator[Any]:
    for group in range(file.num_row_groups):  # all at once, Arrow holds what it has read until the end
        yield from file.iter_batches(BATCH, row_groups=[group], columns=list(columns))


def golds_of(batch: Any, field: str = "text") -> list[list[Any]]:
    """The texts, or another field, of each question's gold answers, from a batch with the column `gold`."""
    spans, bounds = values_and_bounds(batch.column("gold"))
    values = spans.field(field).to_pylist()
    return [values[a:b] for a, b in pairwise(bounds.tolist())]


def values_and_bounds(lists: Any) -> tuple[Any, np.ndarray]:
    """The elements of a list array end to end, and where each list begins among them: int (n + 1,)."""
    bounds = np.from_dlpack(lists.offsets).astype(np.int64)  # from_dlpack, since to_numpy imports pandas
    return lists.flatten(), bounds - bounds[0]


def number_array(values: np.ndarray) -> Any:
    """An Arrow array of int32 or float64 values. `pyarrow.array` would take pandas' time to import."""
    kind = pa.int32() if values.dtype == np.int32 else pa.float64()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def text_array(texts: Sequence[str]) -> Any:
    """An Arrow array of texts; see `number_array`."""
    joined = "".join(texts)
    sizes = map(len, texts if joined.isascii() else map(str.encode, texts))
    bounds = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(sizes, np.int32, len(texts)), out=bounds[1:])
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(joined.encode())]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)
