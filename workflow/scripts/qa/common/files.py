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
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON that can be read (nested too deeply)") from None


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
