"""Records: SQuAD-shaped questions in any of the usual files, read, checked and converted to one schema."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, some
from qa.common.files import read_json, written_aside
from qa.data.file_formats import rows_of

BATCH = 10_000  # records held in memory at once
CHARACTERS = 2**26  # of their contexts: more, and they are written sooner
LONGEST_SHOWN = 80  # characters of an id that an error shows
TOLD = 3  # misaligned answers that an error shows
SOURCE = "source.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """An answer's text and the character of the context where it starts."""

    text: str
    start: int

    def stands_in(self, context: str) -> bool:
        """Whether a non-empty text stands at its place in the context."""
        return bool(self.text) and self.start >= 0 and context.startswith(self.text, self.start)


@dataclass(frozen=True)
class Record:
    """One question about one context; no answers means that it is unanswerable."""

    id: str
    title: str
    context: str
    question: str
    answers: tuple[Answer, ...]


@dataclass
class Tally:
    """What `convert` read and mended."""

    questions: int = 0
    unanswerable: int = 0
    realigned: int = 0
    dropped_answers: int = 0
    dropped_questions: int = 0


def convert(paths: Iterable[str | Path], target: str | Path, misaligned: str = "error") -> Tally:
    """Check the questions of some files and write them, in order, as one Parquet file of the records' schema.

    Columns: id, title, context, question (text) and answers, a struct of the lists text and answer_start (characters,
    int32). `misaligned` says what becomes of an answer that does not stand at its place: `error`, `realign` to the
    nearest place where the text stands, or `drop` it, and its question when no answer is left. Raises InputError that
    names file, id and fault: field missing or of the wrong type, id twice, answer misaligned.
    """
    import pyarrow.parquet as parquet

    tally, seen, faults = Tally(), {}, []
    with written_aside(target) as aside, parquet.ParquetWriter(aside, _schema(), compression="zstd") as writer:
        batch: list[Record] = []
        characters = 0
        for path in paths:
            for record in read(path):
                if record.id in seen:
                    raise InputError(
                        f"{path}: id {_short(record.id)} is in {seen[record.id]} already; ids must be unique"
                    )
                seen[record.id] = path
                mended = _mended(record, misaligned, path, tally, faults)
                if mended is not None:
                    batch.append(mended)
                    characters += len(mended.context)
                if len(batch) == BATCH or characters > CHARACTERS:
                    writer.write_table(_table(batch))
                    batch, characters = [], 0
        if faults:
            raise InputError(
                f"{len(faults):,} answers do not stand at their place: {some(faults, TOLD)}. Correct answer_start, or "
                "set the dataset's `misaligned` to `realign` or `drop`"
            )
        writer.write_table(_table(batch))
        if not tally.questions:
            raise InputError(f"{some(paths)}: no questions in there")
    log.info(
        f"{tally.questions:,} questions, {tally.unanswerable:,} unanswerable; misaligned answers: {tally.realigned:,} "
        f"realigned, {tally.dropped_answers:,} dropped, and with them {tally.dropped_questions:,} questions"
    )
    return tally


def split_files(dataset: str | Path, split: str) -> list[Path]:
    """The files of a split of a downloaded dataset, in order, after its source.json."""
    return [Path(dataset) / name for name in read_json(Path(dataset) / SOURCE)["splits"][split]]


def _mended(record: Record, misaligned: str, path: Any, tally: Tally, faults: list[str]) -> Record | None:
    answers = []
    for answer in record.answers:
        if answer.stands_in(record.context):
            answers.append(answer)
        elif misaligned == "drop":
            tally.dropped_answers += 1
        elif misaligned == "realign" and (place := _nearest(record.context, answer)) is not None:
            tally.realigned += 1
            answers.append(replace(answer, start=place))
        else:
            there = record.context[max(answer.start, 0) :][:40]
            fault = f"{path}: id {_short(record.id)}: {answer.text[:40]!r} at {answer.start}, where {there!r} stands"
            faults.append(fault if len(faults) < TOLD else "")
    if record.answers and not answers:
        tally.dropped_questions += 1
        return None
    tally.questions += 1
    tally.unanswerable += not answers
    return replace(record, answers=tuple(answers))


def _nearest(context: str, answer: Answer) -> int | None:
    if not answer.text:
        return None
    before = context.rfind(answer.text, 0, max(answer.start, 0) + len(answer.text))
    after = context.find(answer.text, max(answer.start, 0))
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: abs(place - answer.start), default=None)


def _schema() -> Any:
    import pyarrow as pa

    texts, starts = pa.list_(pa.string()), pa.list_(pa.int32())
    return pa.schema(
        [(name, pa.string()) for name in ("id", "title", "context", "question")]
        + [("answers", pa.struct([("text", texts), ("answer_start", starts)]))]
    )


def _table(records: list[Record]) -> Any:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records] for name in ("id", "title", "context", "question")
    }
    columns["answers"] = [
        {"text": [a.text for a in record.answers], "answer_start": [a.start for a in record.answers]}
        for record in records
    ]
    return pa.Table.from_pydict(columns, schema=_schema())


def read(path: str | Path) -> Iterator[Record]:
    """Read questions from SQuAD v1.1 or v2.0 JSON, JSON lines, CSV or Parquet, each also gzipped, by the file's name.

    A JSON object with a list `data` is SQuAD's own nesting; anything else is rows, one a line or all in a list. In a
    row `answers` is the hub's {"text": [...], "answer_start": [...]} or a list of {"text", "answer_start"}; in CSV it
    is either of them as JSON, or two plain columns `answer_text` and `answer_start` (empty: unanswerable). `title` may
    be missing. An id or a title may be a whole number.
    Raises InputError for a file or a question that cannot be read.
    """
    for where, row in rows_of(Path(path)):
        yield _record(row, Path(path), where)


def _record(row: dict[str, Any], path: Path, where: str) -> Record:
    identity, title = _named(row.get("id")), _named(row.get("title"))
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
    if not row["question"].strip():
        raise InputError(f"{where}: `question` is empty")
    answers = tuple(_answers(row, where))
    if str(row.get("is_impossible")).lower() == "true" and answers:  # text in CSV
        raise InputError(f"{where}: `is_impossible` is true, yet there are answers")
    return Record(identity, texts["title"], texts["context"], texts["question"], answers)


def _named(value: Any) -> Any:
    """An id or a title as it is, a whole number as its text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _short(identity: str) -> str:
    return repr(identity if len(identity) <= LONGEST_SHOWN else f"{identity[:LONGEST_SHOWN]}…")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _answers(row: dict[str, Any], where: str) -> Iterator[Answer]:
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
        yield Answer(text, start)


def _number(value: Any, where: str) -> int:
    """A cell's whole number: also one written as text, or as 5.0 for a column that has gaps."""
    try:
        number = int(value)
        if isinstance(value, bool) or not (isinstance(value, str) or number == value):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: `answer_start` is {str(value)[:60]!r}, not a whole number of characters") from None
