"""Files between the stages: written under another name and then renamed, so that a killed job leaves no half file."""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qa.common.errors import InputError


@contextmanager
def written_aside(path: str | Path, directory: bool = False, keep_partial: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` when the block ends without an exception.

    The partial file or folder is `.{name}.partial` in the same folder, so the rename never crosses file systems.
    `directory=True` yields an existing folder. `keep_partial=True` keeps what an earlier attempt left, also when the
    block fails, so that a download can resume. Otherwise both are removed.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not keep_partial:
        remove(partial)
    if directory:
        partial.mkdir(exist_ok=True)
    try:
        yield partial
    except BaseException:
        if not keep_partial:
            remove(partial)
        raise
    if directory:
        remove(path)  # rename(2) replaces a file, but not a folder with something in it
    partial.replace(path)


def remove(path: str | Path) -> None:
    """Remove a file, a link or a whole folder, if it exists."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link(source: str | Path, target: str | Path) -> None:
    """Make `target` a hard link to `source`, or a copy where the file system has no links or is another one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_json(path: str | Path, value: Any, flat: bool = False) -> None:
    """Write `value` as JSON (UTF-8, two spaces, NaN refused) by renaming a finished file into place.

    `flat` is for a long mapping without nested values: an entry a line, and six times as fast without indents.
    """
    style: dict[str, Any] = {"separators": (",\n", ": ")} if flat else {"indent": 2}
    with written_aside(path) as partial:
        partial.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False, **style) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises InputError with the file and the place of the fault."""
    return decoded(read_text(path), str(path))


def read_text(path: str | Path, name: str = "") -> str:
    """Read a UTF-8 file. Raises InputError, which calls the file `name`, where it is missing or no such text."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{name or path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name or path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its pairs. Raises ValueError for a key that appears twice: a value would be lost."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        key = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {key!r} twice, at last with {repr(value[key])[:60]}")
    return value


ANY_JSON = json.JSONDecoder()
STRICT_JSON = json.JSONDecoder(object_pairs_hook=_object_of_pairs)  # raises ValueError for a key that appears twice


def decoded(text: str, name: str, where: str = "", decoder: json.JSONDecoder = ANY_JSON) -> Any:
    """The value of JSON text. Raises InputError, which names the file and, within a line `where`, the column."""
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno} of {where}" if where else f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{name}: not JSON ({error.msg} at {place})") from None
    except RecursionError:
        raise InputError(f"{name}: {where or 'its JSON'} cannot be read (nested too deeply)") from None
    except ValueError as error:  # a key that appears twice, or a number with thousands of digits
        raise InputError(f"{name}: {where or 'its JSON'} cannot be read ({error})") from None


def write_csv(path: str | Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a line with `columns`, and one for each row, by renaming a finished file into place.

    A cell that a row lacks is empty. Raises ValueError for a row with another column.
    """
    with written_aside(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def sha256_of_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in chunks of 1 MiB."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_folder(path: str | Path) -> dict[str, str]:
    """SHA-256 of each file under a folder by its relative path, without hidden files (Snakemake's time stamps)."""
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(path).as_posix(): sha256_of_file(p) for p in files}


def digest_of_json(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
