"""Error analysis: every question whose answer is not exactly right, with all that is needed to see why."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from qa.common.files import written_aside
from qa.common.progress import Progress
from qa.decoding.nbest import question_fields
from qa.evaluation import question_scores

MISSED = "missed answer"
UNANSWERABLE = "answered the unanswerable"
BOUNDARY = "boundary"
WRONG_SPAN = "wrong span"

log = logging.getLogger(__name__)


def kind_of(gold: Sequence[dict[str, Any]], answer: str, start: int) -> str:
    """The kind of a wrong answer, which starts at character `start` of the context, -1 if it does not stand there.

    `missed answer`: no answer, though there is one; `answered the unanswerable`: the reverse; `boundary`: the answer
    shares a character of the context with a gold answer; `wrong span`: it shares none.
    """
    if not gold:
        return UNANSWERABLE
    if not answer:
        return MISSED
    stop = start + len(answer)
    overlaps = start >= 0 and any(start < span["start"] + len(span["text"]) and span["start"] < stop for span in gold)
    return BOUNDARY if overlaps else WRONG_SPAN


def write_errors(scores_file: str | Path, target: str | Path) -> Counter[str]:
    """Write errors.parquet: the rows of question_scores.parquet whose answer is not exactly right, with their `kind`.

    Columns are those of question_scores.parquet but `exact`, `windows` and `uncalibrated_probability`; for `kind` see
    `kind_of`. Returns how many errors there are of each kind.
    """
    places = [("start", pa.int32()), ("stop", pa.int32())]
    numbers = [(name, pa.float64()) for name in ("probability", "null_score", "null_probability", "f1")]
    schema = pa.schema([*question_fields(), ("answer", pa.string()), *places, *numbers, ("kind", pa.string())])
    kinds: Counter[str] = Counter()
    questions = question_scores.number_of_questions(scores_file)
    progress = Progress("analyze_errors", questions, "questions")
    options = {"compression": "zstd", "use_dictionary": ["title", "context"]}
    with written_aside(target) as partial, parquet.ParquetWriter(partial, schema, **options) as file:
        for batch in question_scores.batches(scores_file, [*schema.names[:-1], "exact"]):
            wrong = batch.filter(compute.equal(batch.column("exact"), 0.0))
            rows = zip(*(wrong.column(name).to_pylist() for name in ("gold", "answer", "start")), strict=True)
            kind = [kind_of(*row) for row in rows]
            columns = [*(wrong.column(name) for name in schema.names[:-1]), pa.array(kind, pa.string())]
            file.write_table(pa.Table.from_arrays(columns, schema=schema))
            kinds.update(kind)
            progress.reach(progress.done + len(batch))
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    log.info(f"{kinds.total():,} of {questions:,} questions not exactly right{': ' if counts else ''}{counts}")
    return kinds
