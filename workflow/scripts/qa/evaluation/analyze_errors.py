"""Mistakes: every question whose answer is not exactly right, with all that is needed to see why."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, broken
from qa.common.files import written_aside
from qa.common.parquet import opened
from qa.common.progress import Progress
from qa.metrics.squad import raw_scores, read_predictions

BATCH = 2_000  # questions whose contexts and candidates are in memory at once
NOWHERE = -1
MISSED = "missed answer"
UNANSWERABLE = "answered the unanswerable"
BOUNDARY = "boundary"
WRONG_SPAN = "wrong span"

log = logging.getLogger(__name__)


@dataclass
class Mistake:
    """A row of errors.parquet.

    `gold`: dictionaries of text and start, none for an unanswerable question; `answer`: "" for silence; `start` and
    `stop`: the answer's characters of the context, -1 for silence; `probability`: the answer's, null's for silence;
    `null_score`, `null_probability`: as in nbest.parquet; `f1`: from 0 to 1; `kind`: see `kind_of`.
    """

    id: str
    title: str
    question: str
    context: str
    gold: list[dict[str, Any]]
    answer: str
    start: int
    stop: int
    probability: float
    null_score: float
    null_probability: float
    f1: float
    kind: str


@dataclass
class Listed:
    """A row of nbest.parquet: lists of the candidates' texts, first characters and probabilities, best first."""

    id: str
    null_score: float
    null_probability: float
    text: list[str]
    start: list[int]
    probability: list[float]


def kind_of(gold: Sequence[dict[str, Any]], answer: str, start: int) -> str:
    """The kind of a wrong answer, which starts at a character of the context.

    `missed answer`: silent, though there is an answer; `answered the unanswerable`: the reverse; `boundary`: shares a
    character of the context with a gold answer; `wrong span`: with none.
    """
    if not gold:
        return UNANSWERABLE
    if not answer:
        return MISSED
    stop = start + len(answer)
    overlaps = any(start < span["start"] + len(span["text"]) and span["start"] < stop for span in gold)
    return BOUNDARY if overlaps else WRONG_SPAN


def write_mistakes(
    records_file: str | Path, answers_file: str | Path, nbest_file: str | Path, target: str | Path
) -> Counter[str]:
    """Write errors.parquet: a `Mistake` for each question with an exact match of 0, in the records' order.

    `answers_file` {id: text} and `nbest_file` (see answers.nbest_table) are of one decoding. Returns how many there are
    of each kind. Raises InputError where the files are not of the same questions and answers.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    answers, lists, schema = read_predictions(answers_file), _lists(nbest_file), _schema()
    kinds: Counter[str] = Counter()
    seen, progress = 0, Progress("analyze_errors", len(answers), "questions")
    with (
        written_aside(target) as aside,
        parquet.ParquetWriter(aside, schema, compression="zstd") as file,
    ):
        for records in _records(records_file):
            listed = list(islice(lists, len(records)))
            if [row.id for row in listed] != [record["id"] for record in records]:
                raise _other(nbest_file, records_file)
            if any(record["id"] not in answers for record in records):
                raise _other(answers_file, records_file)
            found = [vars(mistake) for mistake in _mistakes(records, answers, listed, nbest_file)]
            file.write_table(pa.Table.from_pylist(found, schema))
            kinds.update(mistake["kind"] for mistake in found)
            seen += len(records)
            progress.reach(seen)
        if seen < len(answers) or next(lists, None) is not None:
            raise _other(answers_file if seen < len(answers) else nbest_file, records_file)
    shares = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    log.info(f"{kinds.total():,} of {seen:,} questions not exactly right{': ' if shares else ''}{shares}")
    return kinds


def _mistakes(
    records: list[dict[str, Any]], answers: dict[str, str], listed: list[Listed], nbest_file: str | Path
) -> Iterator[Mistake]:
    """Yield a Mistake for each of some records whose answer is not exactly right; `listed` are their n-best lists."""
    golds = {record["id"]: [span["text"] for span in record["gold"]] for record in records}
    exact, overlap = raw_scores(golds, {name: answers[name] for name in golds})
    for record, row in zip(records, listed, strict=True):
        name = record["id"]
        if exact[name]:
            continue
        answer, start, probability = answers[name], NOWHERE, row.null_probability
        if answer:
            if answer not in row.text:
                raise InputError(
                    f"{nbest_file}: id {name!r}: the answer {answer[:40]!r} is none of the candidates; answers and "
                    "n-best lists are not of one decoding: remove both and run again"
                )
            place = row.text.index(answer)
            start, probability = row.start[place], row.probability[place]
        yield Mistake(
            **record,
            answer=answer,
            start=start,
            stop=start + len(answer) if answer else NOWHERE,
            probability=probability,
            null_score=row.null_score,
            null_probability=row.null_probability,
            f1=overlap[name],
            kind=kind_of(record["gold"], answer, start),
        )


def _records(records_file: str | Path) -> Iterator[list[dict[str, Any]]]:
    """Yield id, title, question, context and gold of a records file's questions in order, a batch at a time."""

    names = ("id", "title", "question")
    with opened(records_file, read_dictionary=["context"]) as file:
        for batch in file.iter_batches(BATCH, columns=[*names, "context", "answers"]):
            distinct = batch.column("context").dictionary.to_pylist()
            places = batch.column("context").indices.to_pylist()
            columns = [batch.column(name).to_pylist() for name in names]
            spans = (batch.column("answers").field(name).to_pylist() for name in ("text", "answer_start"))
            golds = [
                [{"text": text, "start": start} for text, start in zip(*answers, strict=True)]
                for answers in zip(*spans, strict=True)
            ]
            yield [
                {**dict(zip(names, cells, strict=True)), "context": distinct[place], "gold": gold}
                for *cells, place, gold in zip(*columns, places, golds, strict=True)
            ]


def _lists(nbest_file: str | Path) -> Iterator[Listed]:
    """Yield the rows of an n-best file in order; raise InputError for a file that is broken or holds something else."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(nbest_file) as file:
            for batch in file.iter_batches(BATCH, columns=["id", "null_score", "null_probability", "candidates"]):
                listed = batch.column("candidates")
                texts, starts, chances = (
                    listed.values.field(name).to_pylist() for name in ("text", "start", "probability")
                )
                rows = zip(*(column.to_pylist() for column in batch.columns[:3]), strict=True)
                for row, (a, b) in zip(rows, pairwise(listed.offsets.to_pylist()), strict=True):
                    yield Listed(*row, texts[a:b], starts[a:b], chances[a:b])
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise broken(nbest_file, "n-best lists", error) from None


def _schema() -> Any:
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    gold = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())]))
    return pa.schema([(field.name, kinds.get(field.type, gold)) for field in fields(Mistake)])


def _other(file: str | Path, records_file: str | Path) -> InputError:
    return InputError(f"{file}: not of the questions of {records_file}; remove the file and run again")
