"""Files of questions: JSON of any shape, JSON lines, CSV and Parquet, each also gzipped, as rows of plain values."""

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

ROWS = 1_000  # of a Parquet file that are read at once
CHUNK = 2**20  # bytes unpacked at once
PLAUSIBLE, RATIO = 2**26, 100  # bytes that any file may unpack to, and bytes for each packed one; text packs 3 to 30
ROW_KEYS = {"id", "question", "context"}
COLUMNS = (*ROW_KEYS, "title", "answers", "answer_text", "answer_start", "is_impossible")
FORMATS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The questions of a file as they are, unchecked, each with its place there in words.

    A row has some of `COLUMNS`, by name, and in JSON whatever else was there; a nested question has its paragraph's
    `context` and its article's `title`. Memory grows with the file for JSON that is not one question a line, else with
    its largest rows. Raises InputError for a file that cannot be read as what its name says.
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
            yield from _told(_csv_rows(plain) if kind == "csv" else _parquet_rows(plain), kind, path)


@contextmanager
def _unzipped(path: Path) -> Iterator[Path]:
    """The file itself, or what a gzipped one holds, unpacked for a while.

    Raises InputError for one that is cut or damaged, or that unpacks to so much that it may be meant to fill a disk.
    """
    if path.suffix != ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch, path.stem)
        allowed = max(PLAUSIBLE, RATIO * path.stat().st_size)
        try:
            with gzip.open(path) as packed, open(plain, "wb") as stream:
                while chunk := packed.read(CHUNK):
                    stream.write(chunk)
                    if stream.tell() > allowed:
                        raise InputError(
                            f"{path}: unpacks to more than {allowed >> 20:,} MiB, {RATIO} times its size: a gzip bomb? "
                            "If it is what it should be, unpack it (gunzip) and name the unpacked file instead"
                        )
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path}: not a whole gzip file ({error}); fetch it again") from None
        yield plain


def _json_rows(plain: Path, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Questions of a JSON file of any shape; one question a line is read line by line, all else at once.

    Read by the standard library: a reader that guesses one type for a column refuses files that are right, such as
    one whose first ten megabytes are unanswerable.
    """
    with open(plain, encoding="utf-8-sig") as stream:
        try:
            lines = enumerate(stream, 1)
            number, line = next(((n, text) for n, text in lines if text.strip()), (1, ""))
            value = _json_or_none(line)
            in_lines = isinstance(value, dict) and not isinstance(value.get("data"), list) and value.keys() & ROW_KEYS
            rest = "" if in_lines else stream.read()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
        if in_lines:
            yield from _json_lines(itertools.chain([(number, line)], lines), _lines_in(plain) - number + 1, path)
            return
    if value is None or rest.strip():
        value = _json("\n" * (number - 1) + line + rest, path)
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        yield from _nested_rows(value, path)
    elif isinstance(value, dict) and value.keys() & ROW_KEYS:
        yield "line 1", value
    elif isinstance(value, list):
        for number, row in enumerate(watched(value, "read", "rows"), 1):
            yield f"row {number}", _object(row, path, f"row {number}")
    else:
        raise InputError(f"{path}: neither SQuAD JSON (an object with a list `data`) nor JSON lines of questions")


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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of its pairs; ValueError where a key is there twice: all but its last value would be lost."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        key = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {key!r} twice, at last with {repr(value[key])[:60]}")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_once)


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
    except ValueError as error:  # a key twice, or a number of thousands of digits
        raise InputError(f"{path}: {where or 'its JSON'} cannot be read ({error})") from None


def _object(row: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{path}: {where} is no object with `id`, `question`, `context` and `answers`")
    return row


def _nested_rows(squad: dict[str, Any], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    paragraphs = [
        (a, p, article, paragraph)
        for a, article in enumerate(squad["data"])
        for p, paragraph in enumerate(_listed(article, "paragraphs", path, f"data[{a}]"))
    ]
    for a, p, article, paragraph in watched(paragraphs, "read", "paragraphs"):
        where = f"data[{a}].paragraphs[{p}]"
        for q, question in enumerate(_listed(paragraph, "qas", path, where)):
            shared = {"title": article.get("title", ""), "context": paragraph.get("context")}
            yield f"{where}.qas[{q}]", {**_object(question, path, f"{where}.qas[{q}]"), **shared}


def _listed(value: Any, key: str, path: Path, where: str) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise InputError(f"{path}: {where} has no list `{key}`")
    return value[key]


def _told(rows: Iterator[Any], kind: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a reader, whose faults, of many kinds, mean a file that cannot be read, unless the machine failed."""
    import pyarrow as pa

    while True:
        try:
            place, row = next(rows)
        except StopIteration:
            return
        except (OSError, ValueError, KeyError, csv.Error, pa.ArrowException) as error:
            if isinstance(error, OSError) and shortage(error):
                raise
            raise InputError(f"{path}: cannot be read as {kind} ({first_line(error)})") from None
        yield place, row


def _csv_rows(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every cell as text: ids like 007 and answers like NA stay what they are."""
    csv.field_size_limit(2**31 - 1)
    with open(table, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, strict=True)
        _check_columns(reader.fieldnames or [])
        for row in watched(reader, "read", "rows", total=0):
            if None in row:
                raise ValueError(f"line {reader.line_num} has more cells than the first line has names")
            if None in row.values():  # a file cut inside a row: without its answer it would count as unanswerable
                raise ValueError(f"line {reader.line_num} has fewer cells than the first line has names")
            yield f"line {reader.line_num}", row


def _parquet_rows(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A context that many rows share is in memory once, however often a packed column repeats it."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(table, read_dictionary=["context"]) as file:
        names = file.schema_arrow.names
        _check_columns(names)
        number = 0
        wanted = [name for name in names if name in COLUMNS]
        for batch in file.iter_batches(ROWS, columns=wanted):
            columns = {}
            for name in wanted:
                column = batch.column(name)
                if pa.types.is_dictionary(column.type):
                    distinct = column.dictionary.to_pylist()
                    columns[name] = [None if place is None else distinct[place] for place in column.indices.to_pylist()]
                else:
                    columns[name] = column.to_pylist()
            for place in range(len(batch)):
                number += 1
                yield f"row {number}", {name: columns[name][place] for name in wanted}


def _check_columns(names: Sequence[str]) -> None:
    if not names:
        raise ValueError("it names no columns")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two columns have the name {some(sorted(twice))}")
