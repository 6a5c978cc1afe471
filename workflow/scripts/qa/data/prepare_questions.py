"""Prepare questions: SQuAD-shaped question files, checked and converted to records of one schema."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, some
from qa.common.files import read_json, written_aside
from qa.data.file_formats import rows_of

BATCH_RECORDS = 10_000  # records in memory at once
BATCH_CHARACTERS = 2**26  # of their contexts; a batch with more is written sooner
ID_SHOWN = 80  # characters of an id that a message shows
MISALIGNED_SHOWN = 3  # misaligned answers that a message shows
SOURCE = "source.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GoldAnswer:
    """An answer's text and the character of the context where it starts."""

    text: str
    start: int

    def stands_in(self, context: str) -> bool:
        """Whether the text is not empty and stands at its place in the context."""
        return bool(self.text) and self.start >= 0 and context.startswith(self.text, self.start)


@dataclass(frozen=True)
class QuestionRecord:
    """One question about one context; a question without answers is unanswerable."""

    id: str
    title: str
    context: str
    question: str
    answers: tuple[GoldAnswer, ...]


@dataclass
class QuestionCounts:
    """What `convert` counted."""

    questions: int = 0
    unanswerable: int = 0
    realigned: int = 0  # answers
    dropped_answers: int = 0
    dropped_questions: int = 0


def convert(paths: Iterable[str | Path], target: str | Path, misaligned: str = "error") -> QuestionCounts:
    """Check the questions of several files and write them, in order, as one Parquet file of the records' schema.

    Columns: id, title, context, question (text) and answers, a struct of the lists text and answer_start (characters,
    int32). `misaligned` says what to do with an answer that does not stand at its place: `error`; `realign` it to the
    nearest place where its text stands; or `drop` it, and its question when no answer is left. Raises InputError that
    names file, id and fault: a field is missing or of the wrong type, an id appears twice, an answer is misaligned.
    """
    import pyarrow.parquet as parquet

    aligner, schema = AnswerAligner(misaligned), records_schema()
    with written_aside(target) as partial, parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
        records = (aligner.aligned(record, path) for path, record in _read_all(paths))
        for batch in _batches(record for record in records if record is not None):
            writer.write_table(_table(batch))
        if aligner.faults:
            raise InputError(
                f"{len(aligner.faults):,} answers do not stand at their place: "
                f"{some(aligner.faults, MISALIGNED_SHOWN)}. Correct answer_start, or set the dataset's `misaligned` to "
                "`realign` or `drop`"
            )
        if not aligner.counts.questions:
            raise InputError(f"{some(paths)}: no questions in there")
    counts = aligner.counts
    log.info(
        f"{counts.questions:,} questions, {counts.unanswerable:,} unanswerable; misaligned answers: "
        f"{counts.realigned:,} realigned, {counts.dropped_answers:,} dropped, and with them "
        f"{counts.dropped_questions:,} questions"
    )
    return counts


def split_files(dataset: str | Path, split: str) -> list[Path]:
    """The files of a downloaded dataset's split, in the order of its source.json."""
    return [Path(dataset) / name for name in read_json(Path(dataset) / SOURCE)["splits"][split]]


class AnswerAligner:
    """Finds misaligned answers and treats them as `misaligned` says (see `convert`).

    `counts` counts the questions that remain; `faults` describes each answer that cannot stay.
    """

    def __init__(self, misaligned: str):
        self.misaligned = misaligned
        self.counts = QuestionCounts()
        self.faults: list[str] = []

    def aligned(self, record: QuestionRecord, path: str | Path) -> QuestionRecord | None:
        """The record with the answers that remain; None where a question had answers and none remains."""
        answers = []
        for answer in record.answers:
            if answer.stands_in(record.context):
                answers.append(answer)
            elif self.misaligned == "drop":
                self.counts.dropped_answers += 1
            elif self.misaligned == "realign" and (place := _nearest(record.context, answer)) is not None:
                self.counts.realigned += 1
                answers.append(replace(answer, start=place))
            else:
                at_place = record.context[max(answer.start, 0) :][:40]
                self.faults.append(
                    f"{path}: id {_short(record.id)}: {answer.text[:40]!r} at {answer.start}, where {at_place!r} stands"
                )
        if record.answers and not answers:
            self.counts.dropped_questions += 1
            return None
        self.counts.questions += 1
        self.counts.unanswerable += not answers
        return replace(record, answers=tuple(answers))


def _read_all(paths: Iterable[str | Path]) -> Iterator[tuple[str | Path, QuestionRecord]]:
    """Each file's questions with the file's path. Raises InputError for an id that appears twice."""
    path_of: dict[str, str | Path] = {}
    for path in paths:
        for record in read(path):
            if record.id in path_of:
                raise InputError(
                    f"{path}: id {_short(record.id)} is in {path_of[record.id]} already; ids must be unique"
                )
            path_of[record.id] = path
            yield path, record


def _batches(records: Iterable[QuestionRecord]) -> Iterator[list[QuestionRecord]]:
    batch: list[QuestionRecord] = []
    characters = 0
    for record in records:
        batch.append(record)
        characters += len(record.context)
        if len(batch) == BATCH_RECORDS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    yield batch


def _nearest(context: str, answer: GoldAnswer) -> int | None:
    """The place of an answer's text that is nearest to its start, the earlier of two; None where it stands nowhere."""
    if not answer.text:
        return None
    before = context.rfind(answer.text, 0, max(answer.start, 0) + len(answer.text))
    after = context.find(answer.text, max(answer.start, 0))
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: abs(place - answer.start), default=None)


def records_schema() -> Any:
    """The `pyarrow.Schema` of a records file, which `convert` describes."""
    import pyarrow as pa

    texts, starts = pa.list_(pa.string()), pa.list_(pa.int32())
    return pa.schema(
        [(name, pa.string()) for name in ("id", "title", "context", "question")]
        + [("answers", pa.struct([("text", texts), ("answer_start", starts)]))]
    )


def _table(records: list[QuestionRecord]) -> Any:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records] for name in ("id", "title", "context", "question")
    }
    columns["answers"] = [
        {"text": [a.text for a in record.answers], "answer_start": [a.start for a in record.answers]}
        for record in records
    ]
    return pa.Table.from_pydict(columns, schema=records_schema())


def read(path: str | Path) -> Iterator[QuestionRecord]:
    """Read the questions of a file: SQuAD v1.1 or v2.0 JSON, JSON lines, CSV or Parquet, each also gzipped.

    The file's name says which. A JSON object with a list `data` is SQuAD's own nesting; any other JSON is rows, one a
    line or all in a list. A row's `answers` is the hub's {"text": [...], "answer_start": [...]} or a list of
    {"text", "answer_start"}. In CSV it is either of these as JSON, or two plain columns `answer_text` and
    `answer_start`, empty for an unanswerable question. `title` may be missing. An id or a title may be a whole number.
    Raises InputError for a file or a question that cannot be read.
    """
    for where, row in rows_of(Path(path)):
        yield _record(row, Path(path), where)


def _record(row: dict[str, Any], path: Path, where: str) -> QuestionRecord:
    identity, title = _text_of_number(row.get("id")), _text_of_number(row.get("title"))
    if not isinstance(identity, str) or not identity or not _encodes(identity):
        raise InputError(f"{path}: {where} has no `id` (a text that is not empty)")
    where = f"{path}: id {_short(identity)}"
    texts = {"question": row.get("question"), "context": row.get("context"), "title": "" if title is None else title}
    for key, text in texts.items():
        if not isinstance(text, str):
            fault = "is missing" if text is None else f"is {type(text).__name__}, not text"
            raise InputError(f"{where}: `{key}` {fault}")
        if not _encodes(text):
            raise InputError(f"{where}: `{key}` holds half a surrogate pair, which is no character")
    if not texts["question"].strip():
        raise InputError(f"{where}: `question` is empty")
    answers = tuple(_answers(row, where))
    if answers and str(row.get("is_impossible")).lower() == "true":  # CSV gives it as text
        raise InputError(f"{where}: `is_impossible` is true, yet there are answers")
    return QuestionRecord(identity, texts["title"], texts["context"], texts["question"], answers)


def _text_of_number(value: Any) -> Any:
    """A whole number as its text, any other value as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _short(identity: str) -> str:
    return repr(identity if len(identity) <= ID_SHOWN else f"{identity[:ID_SHOWN]}…")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _answers(row: dict[str, Any], where: str) -> Iterator[GoldAnswer]:
    """The answers of a row in any of the forms that `read` lists."""
    answers = row.get("answers")
    if answers is None and "answer_text" in row:
        texts = [] if row["answer_text"] in (None, "") else [row["answer_text"]]
        answers = {"text": texts, "answer_start": [_number(row.get("answer_start"), where)] if texts else []}
    if isinstance(answers, str):
        try:
            answers = json.loads(answers)
        except (ValueError, RecursionError):
            raise InputError(f"{where}: `answers` is no JSON: {answers[:60]!r}") from None
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise InputError(f"{where}: `answers` needs the lists `text` and `answer_start`, equally long")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(answers, list):
        raise InputError(f"{where}: `answers` is missing; an unanswerable question has an empty list")
    for answer in answers:
        text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
        if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
            raise InputError(f"{where}: an answer needs a text `text` and a whole number `answer_start`")
        yield GoldAnswer(text, start)


def _number(value: Any, where: str) -> int:
    """The whole number of a cell, which may be text, or 5.0 in a column with gaps."""
    try:
        number = int(value)
        if isinstance(value, bool) or not (isinstance(value, str) or number == value):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: `answer_start` is {str(value)[:60]!r}, not a whole number of characters") from None
