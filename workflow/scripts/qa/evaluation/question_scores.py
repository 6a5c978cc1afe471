"""Scores of single questions on disk: a row a question, with all that comparison and error analysis need of it.

Columns of question_scores.parquet: `id`, `title`, `question`, `context`; `gold`, a list of text and start (characters
of the context); `windows`, how many the question has; `answer`, "" for no answer; `start`, `stop`, the answer's
characters of the context, -1 for none; `exact`, 0 or 1; `f1`, from 0 to 1; `probability` of the answer, or of no
answer where that was decided, and `uncalibrated_probability`, the same at temperature 1; `null_score`,
`null_probability`, as in nbest.parquet.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from qa.common.errors import InputError
from qa.common.files import written_aside
from qa.common.parquet import opened
from qa.decoding import nbest
from qa.decoding.nbest import number_array, text_array, values_and_bounds

WHAT = "scores of questions"
ANSWERED_WITH = "answered_with"
NOWHERE = -1  # start and stop of no answer, and of a text that the context does not have
PASSED_ON = (*nbest.QUESTION, "gold", "windows", "null_score", "null_probability")
NUMBERS = ("exact", "f1", "probability", "uncalibrated_probability")


def write(
    answers: list[str],
    numbers: dict[str, np.ndarray],
    nbest_file: str | Path,
    target: str | Path,
    answered_with: dict[str, Any] | None = None,
) -> None:
    """Write question_scores.parquet: the questions of an n-best file with their answers and scores, in its order.

    `numbers` has an array (questions,) for each of NUMBERS. The metadata have what the answers were made with (see
    stages.answered_with).
    """
    spans = [f"candidates.list.element.{name}" for name in ("start", "stop")]
    options = {"compression": "zstd", "use_dictionary": ["title", "context"]}
    with written_aside(target) as partial, parquet.ParquetWriter(partial, schema(), **options) as file:
        first = 0
        for batch in nbest.batches(nbest_file, [*PASSED_ON, *spans]):
            part = slice(first, first + len(batch))
            columns = {name: batch.column(name) for name in PASSED_ON}
            columns["answer"] = text_array(answers[part])
            columns |= _places(batch.column("candidates"), np.array([bool(text) for text in answers[part]], bool))
            columns |= {name: number_array(numbers[name][part].astype(np.float64)) for name in NUMBERS}
            file.write_table(pa.Table.from_arrays([columns[name] for name in schema().names], schema=schema()))
            first = part.stop
        file.add_key_value_metadata({ANSWERED_WITH: json.dumps(answered_with or {})})


def answered_with(path: str | Path) -> dict[str, Any]:
    """What the answers behind question_scores.parquet were made with; empty in a file of an older version."""
    with opened(path, WHAT) as file:
        return json.loads((file.metadata.metadata or {}).get(ANSWERED_WITH.encode(), "{}"))


def _places(candidates: Any, answered: np.ndarray) -> dict[str, Any]:
    """`start` and `stop` of each question's first candidate where it is the answer, else NOWHERE."""
    values, bounds = values_and_bounds(candidates)
    columns = {}
    for name in ("start", "stop"):
        place = np.full(len(answered), NOWHERE, np.int32)
        place[answered] = np.from_dlpack(values.field(name))[bounds[:-1][answered]]
        columns[name] = number_array(place)
    return columns


def schema() -> Any:
    """The columns of question_scores.parquet."""
    numbers = [(name, pa.float64()) for name in (*NUMBERS, "null_score", "null_probability")]
    places = [(name, pa.int32()) for name in ("windows", "start", "stop")]
    return pa.schema([*nbest.question_fields(), ("answer", pa.string()), *places, *numbers])


def batches(path: str | Path, columns: Sequence[str]) -> Iterator[Any]:
    """Yield some columns of question_scores.parquet as `pyarrow.RecordBatch`. Raises as nbest.batches."""
    return nbest.batches(path, columns, WHAT)


def number_of_questions(path: str | Path) -> int:
    """Rows of question_scores.parquet, read from its footer. Raises InputError for a file that is broken."""
    with opened(path, WHAT) as file:
        return file.metadata.num_rows


def read(path: str | Path, numbers: Sequence[str] = (), texts: Sequence[str] = ()) -> dict[str, Any]:
    """Read some columns of question_scores.parquet by name: `numbers` as float64 or int arrays, `texts` as lists."""
    found: dict[str, list[Any]] = {name: [] for name in (*numbers, *texts)}
    for batch in batches(path, list(found)):
        for name, parts in found.items():
            column = batch.column(name)
            parts.append(np.from_dlpack(column)) if name in numbers else parts.extend(column.to_pylist())
    return {name: np.concatenate(parts or [np.zeros(0)]) if name in numbers else parts for name, parts in found.items()}


def check_answers(answers: dict[str, str], best: dict[str, str], nbest_file: str | Path) -> None:
    """Raise InputError where an answer is not its question's first candidate: the files are of two decodings."""
    for name, text in answers.items():
        if text and text != best.get(name):
            raise InputError(
                f"{nbest_file}: id {name!r}: the answer {text[:40]!r} is not the first candidate; answers and n-best "
                "lists are not of one decoding: remove both and run again"
            )
