"""Question files as rows of plain values: JSON of any layout, JSON lines, CSV and Parquet, each also gzipped."""

import csv
import gzip
import itertools
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, first_line, shortage, some
from qa.common.progress import watched

BATCH_ROWS = 1_000  # rows of a Parquet file read at once
CHUNK = 2**20  # bytes unpacked at once
MIN_UNPACKED = 2**26  # bytes that any gzipped file may unpack to
MAX_RATIO = 100  # unpacked bytes for each packed byte of a larger file; text has 3 to 30
ROW_KEYS = {"id", "question", "context"}
COLUMNS = (*ROW_KEYS, "title", "answers", "answer_text", "answer_start", "is_impossible")
FORMATS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the questions of a file, unchecked, each after its place in the file, in words.

    A row has some of `COLUMNS` as keys; in JSON it has all keys of the file. A nested question gets its paragraph's
    `context` and its article's `title`. Memory grows with the file for JSON that is not one question a line, and with
    the largest rows for all other files. Raises InputError for a file that cannot be read as its name says.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    kind = FORMATS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if kind is None:
        raise InputError(f"{path}: unknown kind of file; known: {', '.join(FORMATS)}, each also with .gz")
    with _unzipped(path) as plain:
        if kind == "json":
            yield from _json_rows(plain, path)
        else:
            yield from _readable(_csv_rows(plain) if kind == "csv" else _parquet_rows(plain), kind, path)


@contextmanager
def _unzipped(path: Path) -> Iterator[Path]:
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
                            f"{path}: unpacks to more than {allowed >> 20:,} MiB, {MAX_RATIO} times its size: a gzip "
                            "bomb? If you trust it, unpack it (gunzip) and name the unpacked file instead"
                        )
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path}: not a whole gzip file ({error}); fetch it again") from None
        yield plain


def _json_rows(plain: Path, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSON file of any layout. A file with one question a line is read line by line, any other at once.

    The standard library reads it. A reader that guesses one type for a column refuses files that are right, such as one
    whose first ten megabytes are unanswerable.
    """
    with open(plain, encoding="utf-8-sig") as stream:
        try:
            lines = enumerate(stream, 1)
            number, line = next(((number, text) for number, text in lines if text.strip()), (1, ""))
            value = _json_or_none(line)
            rest = "" if _is_row(value) else stream.read()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
        if _is_row(value):
            total = _lines_in(plain) - number + 1
            yield from _json_lines(itertools.chain([(number, line)], lines), total, path)
            return
    if value is None or rest.strip():
        value = _json("\n" * (number - 1) + line + rest, path)  # empty lines, so that errors count lines right
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        yield from _nested_rows(value, path)
    elif _is_row(value):
        yield "line 1", value
    elif isinstance(value, list):
        for number, row in enumerate(watched(value, "read", "rows"), 1):
            yield f"row {number}", _object(row, path, f"row {number}")
    else:
        raise InputError(f"{path}: neither SQuAD JSON (an object with a list `data`) nor JSON lines of questions")


def _is_row(value: Any) -> bool:
    """Whether a JSON value looks like one question, not like a nested file."""
    return isinstance(value, dict) and not isinstance(value.get("data"), list) and bool(value.keys() & ROW_KEYS)


def _lines_in(plain: Path) -> int:
    with open(plain, "rb") as stream:
        return sum(1 for _ in stream)


def _json_lines(lines: Iterable[tuple[int, str]], total: int, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        for number, line in watched(lines, "read", "lines", total):
            if line.strip():
                where = f"line {number}"
                yield where, _object(_json(line, path, where), path, where)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text after line {number} ({error.reason})") from None


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its pairs. Raises ValueError for a key that appears twice: a value would be lost."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        key = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {key!r} twice, at last with {repr(value[key])[:60]}")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_object_of_pairs)


def _json_or_none(text: str) -> Any:
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _json(text: str, path: Path, where: str = "") -> Any:
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno} of {where}" if where else f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: not JSON ({error.msg} at {place})") from None
    except RecursionError:
        raise InputError(f"{path}: {where or 'its JSON'} is nested too deeply to hold questions") from None
    except ValueError as error:  # a key that appears twice, or a number with thousands of digits
        raise InputError(f"{path}: {where or 'its JSON'} cannot be read ({error})") from None


def _object(row: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{path}: {where} is no object with `id`, `question`, `context` and `answers`")
    return row


def _nested_rows(squad: dict[str, Any], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    paragraphs = [
        (a, p, article, paragraph)
        for a, article in enumerate(squad["data"])
        for p, paragraph in enumerate(_list_of(article, "paragraphs", path, f"data[{a}]"))
    ]
    for a, p, article, paragraph in watched(paragraphs, "read", "paragraphs"):
        where = f"data[{a}].paragraphs[{p}]"
        for q, question in enumerate(_list_of(paragraph, "qas", path, where)):
            place = f"{where}.qas[{q}]"
            shared = {"title": article.get("title", ""), "context": paragraph.get("context")}
            yield place, {**_object(question, path, place), **shared}


def _list_of(value: Any, key: str, path: Path, where: str) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise InputError(f"{path}: {where} has no list `{key}`")
    return value[key]


def _readable(rows: Iterator[Any], kind: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a reader. Raises InputError where the reader fails, unless the machine failed."""
    import pyarrow as pa

    try:
        yield from rows
    except (OSError, ValueError, KeyError, csv.Error, pa.ArrowException) as error:
        if isinstance(error, OSError) and shortage(error):
            raise
        raise InputError(f"{path}: cannot be read as {kind} ({first_line(error)})") from None


def _csv_rows(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a CSV file. Every cell stays text, so ids like 007 and answers like NA stay as they are."""
    csv.field_size_limit(2**31 - 1)
    with open(table, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, strict=True)
        _check_columns(reader.fieldnames or [])
        for row in watched(reader, "read", "rows", total=0):
            if None in row:
                raise ValueError(f"line {reader.line_num} has more cells than the first line has names")
            if None in row.values():  # the file is cut inside a row, which would count as unanswerable
                raise ValueError(f"line {reader.line_num} has fewer cells than the first line has names")
            yield f"line {reader.line_num}", row


def _parquet_rows(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a Parquet file. A context that many rows share is in memory once, and so it cannot fill the memory."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(table, read_dictionary=["context"]) as file:
        _check_columns(file.schema_arrow.names)
        names = [name for name in file.schema_arrow.names if name in COLUMNS]
        number = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=names):
            columns = {}
            for name in names:
                column = batch.column(name)
                if pa.types.is_dictionary(column.type):
                    distinct = column.dictionary.to_pylist()
                    columns[name] = [None if index is None else distinct[index] for index in column.indices.to_pylist()]
                else:
                    columns[name] = column.to_pylist()
            for place in range(len(batch)):
                number += 1
                yield f"row {number}", {name: columns[name][place] for name in names}


def _check_columns(names: Sequence[str]) -> None:
    if not names:
        raise ValueError("it names no columns")
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two columns have the name {some(sorted(doubled))}")
