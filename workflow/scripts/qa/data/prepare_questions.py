"""Prepare questions: question files, checked and converted to records of one schema."""

import ast
import hashlib
import heapq
import io
import itertools
import json
import logging
import tokenize
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, unencodable
from qa.common.files import read_json, written_aside
from qa.data.align_answers import MISALIGNED, AnswerAligner, GoldAnswer, QuestionCounts, QuestionRecord
from qa.data.file_formats import keys_of, rows_of

BATCH_RECORDS = 10_000  # records in memory at once
BATCH_CHARACTERS = 2**26  # of their contexts; a batch with more is written sooner
ID_SHOWN = 80  # characters of an id that a message shows
SOURCE = "source.json"
PLAIN = "a plain text belongs in `answer_text`"
IMPOSSIBLE = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}

log = logging.getLogger(__name__)


def convert(
    paths: Iterable[str | Path],
    target: str | Path,
    misaligned: str = "error",
    names: Iterable[str | Path] | None = None,
    limit: int | None = None,
) -> QuestionCounts:
    """Check the questions of several files and write them, in order, as one Parquet file of the records' schema.

    Columns: id, title, context, question (text) and answers, a struct of the lists text and answer_start (characters,
    int32). `misaligned` says what happens to an answer that does not stand at its place, or has none: `error`;
    `realign` it (see align_answers.realigned); or `drop` it. An answer that cannot be realigned is dropped too. A
    question goes with its last answer, and never becomes unanswerable. Messages call the files `names`. All questions
    are checked and counted; with a `limit`, only a sample of them is written (see `limited`). The file's metadata say
    how many answers were realigned or dropped (see read_records.misaligned). Raises InputError that names file, line,
    id and fault: a field is missing or of the wrong type, an id appears twice, an answer is misaligned, or no question
    is left.
    """
    import pyarrow.parquet as parquet

    paths = list(paths)
    names = paths if names is None else list(names)
    aligner, schema = AnswerAligner(misaligned), records_schema()
    with written_aside(target) as partial, parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
        aligned = (aligner.aligned(record) for record in _read_all(zip(paths, names, strict=True)))
        for batch in _batches(limited((record for record in aligned if record is not None), limit)):
            writer.write_table(_table(batch))
        dropped, counts = aligner.outcome(names), aligner.counts
        if misaligned_counts := counts.misaligned():
            writer.add_key_value_metadata({MISALIGNED: json.dumps(misaligned_counts)})
    if dropped:
        log.warning(dropped)
    log.info(
        f"{counts.questions:,} questions, {counts.unanswerable:,} unanswerable; misaligned answers: "
        f"{counts.realigned:,} realigned, {counts.dropped_answers:,} dropped, and with them "
        f"{counts.dropped_questions:,} questions"
    )
    if limit is not None and counts.questions > limit:
        log.warning(f"a quick try: only {limit:,} of these questions are used (limit)")
    return counts


def check(paths: Iterable[str | Path], misaligned: str) -> QuestionCounts:
    """Check the questions of several files as `convert` does, and write nothing. Raises as `convert`."""
    paths, aligner = list(paths), AnswerAligner(misaligned)
    for record in _read_all(zip(paths, paths, strict=True)):
        aligner.aligned(record)
    aligner.outcome(paths)
    return aligner.counts


def limited(records: Iterable[QuestionRecord], limit: int | None) -> Iterable[QuestionRecord]:
    """At most `limit` of the records, in their order: those with the least digests of their ids.

    So the sample is the same on every machine, it spreads over all articles, and a greater limit keeps its questions.
    """
    if limit is None:
        return records

    def digest(numbered: tuple[int, QuestionRecord]) -> bytes:
        return hashlib.sha256(numbered[1].id.encode()).digest()

    return (record for _, record in sorted(heapq.nsmallest(limit, enumerate(records), digest), key=itemgetter(0)))


def split_files(dataset: str | Path, split: str) -> tuple[list[Path], list[str]]:
    """The files of a downloaded dataset's split, in the order of its source.json, and their names in messages.

    Of the user's own files these are the paths in the configuration, not those of the copies.
    """
    source = read_json(Path(dataset) / SOURCE)
    places = source["splits"][split]
    files = [Path(dataset) / place for place in places]
    return files, [
        str(file) if "repo" in source else source["files"][place]["from"]
        for file, place in zip(files, places, strict=True)
    ]


def _read_all(files: Iterable[tuple[str | Path, str | Path]]) -> Iterator[QuestionRecord]:
    """The questions of files, each a path and its name. Raises InputError for an id that appears twice."""
    name_of: dict[str, str | Path] = {}
    for path, name in files:
        for record in read(path, name):
            if record.id in name_of:
                raise InputError(f"{record.where} is in {name_of[record.id]} already; ids must be unique")
            name_of[record.id] = name
            yield record


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


def read(path: str | Path, name: str | Path | None = None) -> Iterator[QuestionRecord]:
    """Read the questions of a file: SQuAD v1.1 or v2.0 JSON, JSON lines, CSV or Parquet, each also gzipped.

    The file's ending says which. JSON has an item a line, or all in a list, or all in the list `data` of an object. An
    item is a row, a paragraph (`context` and `qas`) or an article (`title` and `paragraphs`). A row's `answers` is the
    hub's {"text": [...], "answer_start": [...]}, a list of {"text", "answer_start"}, or a list of texts with the list
    `answer_starts` beside it. In CSV it is one of these as JSON or as `to_csv` of pandas or datasets writes it, or two
    plain columns `answer_text` and `answer_start`, empty for an unanswerable question. A question whose answers are all
    empty texts is unanswerable too. `title` and `answer_start` may be missing. An id or a title may be a whole number.
    Messages call the file `name`. Raises InputError for a file or a question that cannot be read.
    """
    name = str(name or path)
    for where, row in rows_of(Path(path), name):
        yield _record(row, f"{name}: {where}")


def gold_texts(path: str | Path) -> dict[str, list[str]]:
    """The texts of gold answers by question id, in the order of a file that `read` reads, as the file has them.

    The rest of a question is not looked at. Raises InputError as `read`, for an id that appears twice, and where there
    is no question.
    """
    golds: dict[str, list[str]] = {}
    for where, row in rows_of(Path(path), str(path)):
        where = f"{path}: {where}"
        identity = _identity(row, where)
        if identity in golds:
            raise InputError(f"{where}: id {_short(identity)} occurs twice; ids must be unique")
        golds[identity] = [answer.text for answer in _answers(row, f"{where}, id {_short(identity)}")]
    if not golds:
        raise InputError(f"{path}: no question in it; give data with at least one")
    return golds


def _record(row: dict[str, Any], where: str) -> QuestionRecord:
    identity, title = _identity(row, where), _text_of_number(row.get("title"))
    where = f"{where}, id {_short(identity)}"
    texts = {"question": row.get("question"), "context": row.get("context"), "title": "" if title is None else title}
    for key, text in texts.items():
        if not isinstance(text, str):
            fault = "is missing" if text is None else f"is {type(text).__name__}, not text"
            raise InputError(f"{where}: `{key}` {fault}")
        if fault := unencodable(text):
            raise InputError(f"{where}: `{key}` {fault}")
    if not texts["question"].strip():
        raise InputError(f"{where}: `question` is empty")
    answers = tuple(_answers(row, where))
    if not any(answer.text.strip() for answer in answers):
        answers = ()
    impossible = IMPOSSIBLE.get(str(row.get("is_impossible")).lower())  # CSV gives it as text
    if impossible is bool(answers):  # with false, a question whose answers were lost would become unanswerable
        faults = "`is_impossible` is false, yet there are no answers", "`is_impossible` is true, yet there are answers"
        raise InputError(f"{where}: {faults[impossible]}")
    return QuestionRecord(identity, texts["title"], texts["context"], texts["question"], answers, where)


def _identity(row: dict[str, Any], where: str) -> str:
    identity = _text_of_number(row.get("id"))
    if isinstance(identity, (dict, list)):
        raise InputError(
            f"{where}: `id` is a whole column; write a row for each question (pandas: to_json with orient='records')"
        )
    if isinstance(identity, (float, bool)):  # pandas makes fractions of a column with gaps
        raise InputError(f"{where}: `id` is {identity}, neither a text nor a whole number; write it as a text")
    if not isinstance(identity, str) or not identity or unencodable(identity):
        raise InputError(f"{where} has no `id` (a text that is not empty){keys_of(row)}")
    return identity


def _text_of_number(value: Any) -> Any:
    """A whole number as its text, any other value as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _short(identity: str) -> str:
    return repr(identity if len(identity) <= ID_SHOWN else f"{identity[:ID_SHOWN]}…")


def _answers(row: dict[str, Any], where: str) -> Iterator[GoldAnswer]:
    """The answers of a row in any of the forms that `read` lists."""
    answers = row.get("answers")
    if answers is None and "answer_text" in row:
        text, start = row["answer_text"], row.get("answer_start")
        blank = text is None or not str(text).strip()
        answers = [] if blank else [{"text": text, "answer_start": _number_of(start)}]
    answers = _cell(answers, "answers", where)
    if isinstance(answers, list) and answers and all(isinstance(answer, str) for answer in answers):
        starts = row.get("answer_starts", row.get("answer_start"))
        starts = None if starts == "" else _cell(starts, "answer_starts", where)
        answers = {"text": answers, "answer_start": starts}
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if isinstance(texts, list) and starts is None:
            starts = [None] * len(texts)
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise InputError(f"{where}: `answers` needs the lists `text` and `answer_start`, equally long")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(answers, list):
        fault = "is missing" if answers is None else f"is no list; {PLAIN}"
        raise InputError(f"{where}: `answers` {fault}; an unanswerable question has an empty list")
    for answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
            raise InputError(f"{where}: an answer needs a text `text` and a whole number `answer_start`")
        yield GoldAnswer(answer["text"], _start(answer.get("answer_start"), where))


def _cell(value: Any, key: str, where: str) -> Any:
    """The value of a CSV cell (see `_from_cell`); anything but text as it is."""
    try:
        return _from_cell(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError):
        raise InputError(
            f"{where}: `{key}` is neither JSON nor a Python value with commas: {value[:60]!r}; {PLAIN}"
        ) from None


class _PlainValues(ast.NodeTransformer):
    """NumPy's `array([...], dtype=...)` as its list, `np.int64(3)` as its number."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_numpy = ast.unparse(node.func).startswith(("array", "np.")) and node.args
        return node.args[0] if is_numpy else node


def _from_cell(text: str) -> Any:
    """The value of a CSV cell: JSON, or a Python literal, which `to_csv` of pandas and of datasets writes.

    Raises ValueError for texts without a comma between them, which Python would join: an array of NumPy looks so.
    """
    try:
        return json.loads(text)
    except ValueError:
        words = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type != tokenize.NL]
        if any(one.type == other.type == tokenize.STRING for one, other in itertools.pairwise(words)):
            raise ValueError("no comma between two texts") from None
        return ast.literal_eval(_PlainValues().visit(ast.parse(text.strip(), mode="eval")))


def _number_of(cell: Any) -> Any:
    """The number of a cell that is text, None for an empty one; anything else as it is."""
    try:
        return (float(cell) if cell.strip() else None) if isinstance(cell, str) else cell
    except ValueError:
        return cell


def _start(value: Any, where: str) -> int | None:
    """A start as a whole number: 5.0 is one, since a column with gaps holds fractions. None for none and NaN."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value != value:
        value = None
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise InputError(f"{where}: `answer_start` is {str(value)[:60]!r}, not a whole number of characters")
    return value
