"""Question files as rows of plain values: JSON of any layout, JSON lines, CSV and Parquet, each also gzipped."""

import csv
import gzip
import itertools
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, first_line, shortage, some
from qa.common.files import STRICT_JSON, decoded
from qa.common.progress import watched

BATCH_ROWS = 1_000  # rows of a Parquet file read at once
AS_UTF8 = "; save the file as UTF-8"
CHUNK = 2**20  # bytes unpacked at once
MIN_UNPACKED = 2**26  # bytes that any gzipped file may unpack to
MAX_RATIO = 100  # unpacked bytes for each packed byte of a larger file; text has 3 to 30
ROW_KEYS = ("id", "question", "context")
COLUMNS = (*ROW_KEYS, "title", "answers", "answer_text", "answer_start", "answer_starts", "is_impossible")
DELIMITERS = ",;\t"
FORMATS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}

Row = tuple[str, dict[str, Any]]  # a question's place in its file, in words, and its values by key


def rows_of(path: Path, name: str) -> Iterator[Row]:
    """Yield the questions of a file, unchecked, each after its place in the file.

    A row has some of `COLUMNS` as keys; in JSON it has all keys of the file. A nested question gets its paragraph's
    `context` and its article's `title`. Memory grows with the file for JSON that is not one item a line, and with the
    largest rows for all other files. Raises InputError, which calls the file `name`, for a file that cannot be read as
    its ending says.
    """
    if not path.is_file():
        raise InputError(f"{name}: no such file")
    kind = FORMATS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if kind is None:
        raise InputError(f"{name}: unknown kind of file; known: {', '.join(FORMATS)}, each also with .gz")
    with unzipped(path, name) as plain:
        if kind == "json":
            yield from _json_rows(plain, name)
        else:
            yield from _readable(_csv_rows(plain) if kind == "csv" else _parquet_rows(plain), kind, name)


@contextmanager
def unzipped(path: Path, name: str) -> Iterator[Path]:
    """Yield the path of a file, or of the content of a gzipped file, unpacked until the block ends.

    Raises InputError for a gzipped file that is cut or damaged, or that unpacks to so much that it may be an attack.
    """
    if path.suffix != ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch, path.stem)
        allowed = max(MIN_UNPACKED, MAX_RATIO * path.stat().st_size)
        try:
            with gzip.open(path) as packed, open(plain, "wb") as stream:
                while chunk := packed.read(CHUNK):
                    stream.write(chunk)
                    if stream.tell() > allowed:
                        raise InputError(
                            f"{name}: unpacks to more than {allowed >> 20:,} MiB, {MAX_RATIO} times its size: a gzip "
                            "bomb? If you trust it, unpack it (gunzip) and name the unpacked file instead"
                        )
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{name}: not a whole gzip file ({error}); fetch it again") from None
        yield plain


def _json_rows(plain: Path, name: str) -> Iterator[Row]:
    """Rows of a JSON file of any layout. A file with one item a line is read line by line, any other at once.

    The standard library reads it. A reader that guesses one type for a column refuses files that are right, such as one
    whose first ten megabytes are unanswerable.
    """
    with open(plain, encoding="utf-8-sig") as stream:
        lines = _numbered(stream, name)
        number, line = next(((number, text) for number, text in lines if text.strip()), (1, ""))
        value = json_or_none(line)
        if _is_item(value):
            total = _lines_in(plain) - number + 1
            for at, item in watched(itertools.chain([(number, line)], lines), "read", "lines", total):
                if item.strip():
                    where = f"line {at}"
                    yield from _questions(decoded(item, name, where, STRICT_JSON), name, where)
            return
        rest = "".join(text for _, text in lines)
    if rest.strip() and isinstance(value, dict) and "header" in value:
        raise InputError(
            f"{name}: MRQA's form (a header, then paragraphs) is not read; write a row for each question, with `id` "
            "(there qid), `context`, `question`, and `answers` (there detected_answers) with each text and answer_start"
        )
    if rest.strip() and isinstance(value, dict):
        raise InputError(f"{name}: line {number} is no question, paragraph or article{keys_of(value)}")
    if value is None or rest.strip():
        text = "\n" * (number - 1) + line + rest
        value = decoded(text, name, decoder=STRICT_JSON)  # empty lines, so that errors count lines right
    items = value.get("data") if isinstance(value, dict) else value
    if _is_item(value):
        yield from _questions(value, name, "line 1")
    elif isinstance(items, list):
        place = "row {}" if items is value else "data[{}]"
        for number, item in enumerate(watched(items, "read", "items"), int(items is value)):
            yield from _questions(item, name, place.format(number))
    else:
        raise InputError(
            f"{name}: neither SQuAD JSON (an object with a list `data`) nor JSON lines of questions{keys_of(value)}"
        )


def _is_item(value: Any) -> bool:
    """Whether a JSON value looks like a question, a paragraph or an article, not like a file of them."""
    known = {*ROW_KEYS, "qas", "paragraphs"}
    return isinstance(value, dict) and not isinstance(value.get("data"), list) and bool(value.keys() & known)


def keys_of(value: Any) -> str:
    """The keys of an object, to end a message with; "" for anything else."""
    return f"; it has {some((repr(key)[:40] for key in value), 8)}" if isinstance(value, dict) and value else ""


def _lines_in(plain: Path) -> int:
    with open(plain, "rb") as stream:
        return sum(1 for _ in stream)


def _numbered(stream: Iterable[str], name: str) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers from 1. Raises InputError where it is no UTF-8 text."""
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            yield number, line
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text after line {number} ({error.reason}){AS_UTF8}") from None


def json_or_none(text: str) -> Any:
    """The value of JSON text without a key twice; None for other text."""
    try:
        return decoded(text, "", decoder=STRICT_JSON)
    except InputError:
        return None


def _object(row: Any, name: str, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{name}: {where} is no object with `id`, `question`, `context` and `answers`")
    return row


def _questions(item: Any, name: str, where: str) -> Iterator[Row]:
    """The questions of an article, of a paragraph, or of a row, which is one question."""
    if "paragraphs" in _object(item, name, where):
        for number, paragraph in enumerate(_list_of(item, "paragraphs", name, where)):
            yield from _of_paragraph(paragraph, item.get("title", ""), name, f"{where}.paragraphs[{number}]")
    elif "qas" in item:
        yield from _of_paragraph(item, item.get("title", ""), name, where)
    else:
        yield where, item


def _of_paragraph(paragraph: Any, title: Any, name: str, where: str) -> Iterator[Row]:
    for number, question in enumerate(_list_of(paragraph, "qas", name, where)):
        place = f"{where}.qas[{number}]"
        yield place, {**_object(question, name, place), "title": title, "context": paragraph.get("context")}


def _list_of(value: Any, key: str, name: str, where: str) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise InputError(f"{name}: {where} has no list `{key}`")
    return value[key]


def _readable(rows: Iterator[Any], kind: str, name: str) -> Iterator[Row]:
    """The rows of a reader. Raises InputError where the reader fails, unless the machine failed."""
    import pyarrow as pa

    try:
        yield from rows
    except (OSError, ValueError, KeyError, csv.Error, pa.ArrowException) as error:
        if isinstance(error, OSError) and shortage(error):
            raise
        advice = AS_UTF8 if isinstance(error, UnicodeDecodeError) else ""
        raise InputError(f"{name}: cannot be read as {kind} ({first_line(error)}){advice}") from None


def _csv_rows(table: Path) -> Iterator[Row]:
    """Rows of a CSV file. Every cell stays text, so ids like 007 and answers like NA stay as they are."""
    csv.field_size_limit(2**31 - 1)
    with open(table, newline="", encoding="utf-8-sig") as stream:
        header = stream.readline()
        found = {delimiter: next(csv.reader([header], delimiter=delimiter), []) for delimiter in DELIMITERS}
        delimiter = max(found, key=lambda delimiter: len({*_plain(found[delimiter])} & {*COLUMNS}))
        stream.seek(0)
        reader = csv.DictReader(stream, strict=True, delimiter=delimiter)
        reader.fieldnames = _columns(reader.fieldnames or [])
        begins = 2
        try:
            for row in watched(reader, "read", "rows", total=0):
                if None in row:
                    raise ValueError(f"line {reader.line_num} has more cells than the first line has names")
                if None in row.values():  # the file is cut inside a row, which would count as unanswerable
                    raise ValueError(f"line {reader.line_num} has fewer cells than the first line has names")
                yield f"line {reader.line_num}", row
                begins = reader.line_num + 1
        except csv.Error as error:
            fault = str(error).replace("\t", "tab")
            raise ValueError(
                f"{fault} in the row from line {begins} on; a cell with quotation marks in it must be quoted, and each "
                "of them doubled"
            ) from None


def _parquet_rows(table: Path) -> Iterator[Row]:
    """Rows of a Parquet file. A context that many rows share is in memory once, and so it cannot fill the memory."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    stored = parquet.read_schema(table).names
    column_of = {name: column for name, column in zip(stored, _columns(stored), strict=True) if column in COLUMNS}
    contexts = [name for name, column in column_of.items() if column == "context"]
    with parquet.ParquetFile(table, read_dictionary=contexts) as file:
        number = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=list(column_of)):
            columns = {}
            for name, column in column_of.items():
                values = batch.column(name)
                if pa.types.is_dictionary(values.type):
                    distinct = values.dictionary.to_pylist()
                    columns[column] = [
                        None if index is None else distinct[index] for index in values.indices.to_pylist()
                    ]
                else:
                    columns[column] = values.to_pylist()
            for place in range(len(batch)):
                number += 1
                yield f"row {number}", {column: values[place] for column, values in columns.items()}


def _plain(names: Sequence[str]) -> list[str]:
    """Column names in lower case, without white space around them."""
    return [name.strip().lower() for name in names]


def _columns(names: Sequence[str]) -> list[str]:
    """The `_plain` names of columns. Raises ValueError where one that is needed is missing, or there twice."""
    plain = _plain(names)
    if doubled := [name for name in COLUMNS if plain.count(name) > 1]:
        raise ValueError(f"two columns have the name {some(doubled)}")
    missing = [name for name in ROW_KEYS if name not in plain]
    if not {"answers", "answer_text"} & {*plain}:
        missing.append("`answers` or `answer_text`")
    if missing:
        raise ValueError(
            f"no column {', '.join(missing)}; it has {some((repr(name)[:40] for name in names), 8) or 'none'}"
        )
    return plain
