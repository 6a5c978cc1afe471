"""Seals: checksums beside the files of a stage, compared before another stage reads the files.

A disk, a copy or an editor may change a file that Snakemake takes for finished. The seal of `x/y.json` is
`x/.y.json.seal`, the seal of a folder is `folder/.seal`. It is JSON: each file's size in bytes and its CRC-32. A file
without a seal is taken as it is. `qa verify` compares all files that have one. The sums of the files that a table was
made of are in `.table.csv.sources`.
"""

import argparse
import shlex
import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, some
from qa.common.files import read_json, remove, write_json

CHUNK = 2**20  # bytes read at once
FOLDERS = ("resources", "results")


def seal(paths: Iterable[str | Path]) -> None:
    """Write the seal of each of these files and folders that exists."""
    for path in map(Path, paths):
        if path.exists():
            write_json(seal_of(path), sums(path))


def forget(paths: Iterable[str | Path]) -> None:
    """Remove the seals of files that a stage is about to write; a folder's seal goes with the folder."""
    for path in map(Path, paths):
        remove(_beside(path))


def check(paths: Iterable[str | Path], then: str = "run again") -> None:
    """Raise InputError for files and folders that differ from their seals: which, how, and what to do.

    `then`: what makes a removed file anew.
    """
    faults = {path: fault for path in dict.fromkeys(map(Path, paths)) if (fault := fault_of(path))}
    if faults:
        message = "; ".join(f"{path}: {fault}" for path, fault in faults.items())
        seals = " ".join(shlex.quote(str(seal_of(path))) for path in faults)
        paths = " ".join(shlex.quote(str(path)) for path in faults)
        raise InputError(
            f"{message}. A disk or a copy has damaged it, or somebody edited it. To have it made anew: rm -r {paths} "
            f"and {then}; to take it as it is: rm {seals}"
        )


def record_sources(table: str | Path, files: Iterable[str | Path]) -> None:
    """Write the sums of the files that a table was made of, beside the table."""
    write_json(_beside(Path(table), "sources"), {str(file): sums(file) for file in files})


def changed_sources(table: str | Path, files: Iterable[str | Path], of_any_age: bool = False) -> list[str]:
    """The existing `files` that hold other bytes than a table was made of, and are newer than it or `of_any_age`.

    As Snakemake does, it takes a newer file of the same bytes for the same file.
    """
    written, recorded = Path(table).stat().st_mtime_ns, _beside(Path(table), "sources")
    present = [Path(file) for file in files if Path(file).exists()]
    asked = [str(file) for file in present if of_any_age or file.stat().st_mtime_ns > written]
    known = read_json(recorded) if asked and recorded.exists() else {}
    return [file for file in asked if file not in known or difference(Path(file), known[file])]


def fault_of(path: str | Path, sizes_only: bool = False) -> str:
    """How a file or folder differs from its seal; "" where it does not, or has no seal. `sizes_only`: fast."""
    path = Path(path)
    if not path.exists() or not seal_of(path).exists():
        return ""
    try:
        return difference(path, read_json(seal_of(path)), sizes_only)
    except InputError as error:
        return f"its seal is broken ({error})"


def difference(path: Path, sealed: Any, sizes_only: bool = False) -> str:
    """How a file, or the files of a folder, differ from their `sums`; empty where they do not. `sizes_only`: fast."""
    try:
        entries = [(name, entry["size"], entry["crc32"]) for name, entry in sealed.items()]
    except (AttributeError, KeyError, TypeError):
        return "its seal is broken"
    if not entries and _names(path):
        return "its seal is broken (it names no file)"
    for name, size, _ in entries:
        file = _file(path, name)
        if not file.is_file():
            return f"{name} is missing"
        if (now := file.stat().st_size) != size:
            return f"{name} has {now:,} bytes where {size} were written"
    for name, _, checksum in [] if sizes_only else entries:
        if (found := crc32_of(_file(path, name))) != checksum:
            return f"{name} has other bytes than were written (CRC-32 {found}, not {checksum})"
    return ""


def sums(path: str | Path, without: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Size and CRC-32 of a file, or of each file of a folder by its name there, without hidden files."""
    path = Path(path)
    files = {name: _file(path, name) for name in _names(path) if name not in without}
    return {name: {"size": file.stat().st_size, "crc32": crc32_of(file)} for name, file in files.items()}


def crc32_of(path: Path) -> str:
    """CRC-32 of a file's bytes, eight hexadecimal digits. It finds accidents, at three times the speed of SHA-256."""
    checksum, chunk = 0, memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as stream:
        while size := stream.readinto(chunk):
            checksum = zlib.crc32(chunk[:size], checksum)
    return f"{checksum:08x}"


def seal_of(path: Path) -> Path:
    """The path of the seal of a file or folder."""
    return path / ".seal" if path.is_dir() else _beside(path)


def _beside(path: Path, what: str = "seal") -> Path:
    return path.with_name(f".{path.name}.{what}")


def _names(path: Path) -> list[str]:
    if not path.is_dir():
        return [path.name]
    names = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return sorted(name for name in names if "/." not in f"/{name}")


def _file(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path


def main(arguments: Sequence[str] = ()) -> int:
    """Compare every sealed file below some folders and print which differ; the exit code, 1 if any differs."""
    parser = argparse.ArgumentParser(
        prog="qa verify", description="Say whether results and downloads are still as they were written."
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="default: resources and results")
    folders = parser.parse_args(arguments).folders
    missing = [folder for folder in folders if not Path(folder).is_dir()]
    folders = folders or FOLDERS
    seals = sorted(seal for folder in folders for seal in Path(folder).rglob(".*seal"))
    names = [seal.name.removeprefix(".").removesuffix("seal").removesuffix(".") for seal in seals]
    paths = [seal.with_name(name) if name else seal.parent for seal, name in zip(seals, names, strict=True)]
    try:
        if missing:
            raise InputError(f"no such folder: {some(missing)}")
        if not paths:
            raise InputError(f"{some(folders)}: nothing there has a seal, so nothing can be compared")
        if gone := [path for path in paths if not path.exists()]:
            raise InputError(f"{some(gone)}: missing, though it was sealed; run the workflow to have it made anew")
        check(paths)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(paths):,} files and folders of {some(folders)} are as they were written")
    return 0
