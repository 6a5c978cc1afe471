"""Records: SQuAD-shaped questions in any of the usual files, read, checked and converted to one schema."""

import csv
import gzip
import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qa.errors import InputError, some
from qa.files import read_json, written_aside

BATCH = 10_000  # records held in memory at once
SOURCE = "source.json"
ROW_KEYS = {"id", "question", "context"}
FORMATS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}

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
        for path in paths:
            for record in read(path):
                if record.id in seen:
                    raise InputError(f"{path}: id {record.id!r} is in {seen[record.id]} already; ids must be unique")
                seen[record.id] = path
                mended = _mended(record, misaligned, path, tally, faults)
                if mended is not None:
                    batch.append(mended)
                if len(batch) == BATCH:
                    writer.write_table(_table(batch))
                    batch = []
        if faults:
            raise InputError(
                f"{len(faults):,} answers do not stand at their place: {some(faults, 3)}. Correct answer_start, or set "
                "the dataset's `misaligned` to `realign` or `drop`"
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
            faults.append(f"{path}: id {record.id!r}: {answer.text[:40]!r} at {answer.start}, where {there!r} stands")
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
    be missing.
    Raises InputError for a file or a question that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    kind = FORMATS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if kind is None:
        raise InputError(f"{path}: unknown kind of file; known: {', '.join(FORMATS)}, each also with .gz")
    with tempfile.TemporaryDirectory() as scratch:
        plain = _unzipped(path, Path(scratch))
        for where, row in _json_rows(plain, path) if kind == "json" else _flat_rows(plain, kind, path, scratch):
            yield _record(row, path, where)


def _unzipped(path: Path, scratch: Path) -> Path:
    if path.suffix != ".gz":
        return path
    plain = scratch / path.stem
    try:
        with gzip.open(path) as packed, open(plain, "wb") as stream:
            shutil.copyfileobj(packed, stream)
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a whole gzip file ({error}); fetch it again") from None
    return plain


def _json_rows(plain: Path, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Questions of a JSON file of any shape.

    Read by the standard library: a reader that guesses one type for a column refuses files that are right, such as
    one whose first ten megabytes are unanswerable.
    """
    try:
        text = plain.read_text(encoding="utf-8-sig")
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":  # several values: one a line
            raise InputError(f"{path}: not JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None
        yield from _json_lines(text, path)
        return
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        yield from _nested_rows(value, path)
    elif isinstance(value, dict) and value.keys() & ROW_KEYS:
        yield "line 1", value
    elif isinstance(value, list):
        for number, row in enumerate(value, 1):
            yield f"row {number}", _object(row, path, f"row {number}")
    else:
        raise InputError(f"{path}: neither SQuAD JSON (an object with a list `data`) nor JSON lines of questions")


def _json_lines(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}: line {number} is not JSON ({error.msg}, column {error.colno})") from None
            yield f"line {number}", _object(row, path, f"line {number}")


def _object(row: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{path}: {where} is no object with `id`, `question`, `context` and `answers`")
    return row


def _nested_rows(squad: dict[str, Any], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for a, article in enumerate(squad["data"]):
        paragraphs = _listed(article, "paragraphs", path, f"data[{a}]")
        for p, paragraph in enumerate(paragraphs):
            where = f"data[{a}].paragraphs[{p}]"
            for q, question in enumerate(_listed(paragraph, "qas", path, where)):
                shared = {"title": article.get("title", ""), "context": paragraph.get("context")}
                yield f"{where}.qas[{q}]", {**_object(question, path, f"{where}.qas[{q}]"), **shared}


def _listed(value: Any, key: str, path: Path, where: str) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise InputError(f"{path}: {where} has no list `{key}`")
    return value[key]


def _flat_rows(plain: Path, kind: str, path: Path, scratch: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    datasets.disable_progress_bars()
    try:
        options = _all_text(plain) if kind == "csv" else {}
        rows = datasets.load_dataset(kind, data_files=str(plain), split="train", cache_dir=scratch, **options)
    except Exception as error:  # the readers raise many kinds; all mean a file that cannot be read
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as {kind} ({reason})") from None
    for number, row in enumerate(rows):
        yield f"row {number + 1}", row


def _all_text(table: Path) -> dict[str, Any]:
    """Options that read every cell of a CSV file as text: ids like 007 and answers like NA stay what they are."""
    import datasets

    with open(table, newline="", encoding="utf-8-sig") as stream:
        header = next(csv.reader(stream), [])
    if not header:
        raise ValueError("its first line names no columns")
    return {
        "features": datasets.Features({name: datasets.Value("string") for name in header}),
        "keep_default_na": False,
    }


def _record(row: dict[str, Any], path: Path, where: str) -> Record:
    identity = row.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if not isinstance(identity, str) or not identity or not _encodes(identity):
        raise InputError(f"{path}: {where} has no `id` (a text that is not empty)")
    for key in ("question", "context"):
        if not isinstance(row.get(key), str):
            fault = "is missing" if row.get(key) is None else f"is {type(row[key]).__name__}, not text"
            raise InputError(f"{path}: id {identity!r}: `{key}` {fault}")
        if not _encodes(row[key]):
            raise InputError(f"{path}: id {identity!r}: `{key}` holds half a surrogate pair, which is no character")
    if not row["question"].strip():
        raise InputError(f"{path}: id {identity!r}: `question` is empty")
    title = row.get("title")
    answers = tuple(_answers(row, f"{path}: id {identity!r}"))
    if row.get("is_impossible") is True and answers:
        raise InputError(f"{path}: id {identity!r}: `is_impossible` is true, yet there are answers")
    title = title if isinstance(title, str) and _encodes(title) else ""
    return Record(identity, title, row["context"], row["question"], answers)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _answers(row: dict[str, Any], where: str) -> Iterator[Answer]:
    answers = row.get("answers")
    if answers is None and "answer_text" in row:
        texts = [row["answer_text"]] if row["answer_text"] else []
        answers = {"text": texts, "answer_start": [_number(row.get("answer_start"), where)] if texts else []}
    if isinstance(answers, str):
        try:
            answers = json.loads(answers)
        except json.JSONDecodeError:
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
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"{where}: `answer_start` is {value!r}, not a whole number of characters") from None
