"""Whether downloaded files are still what was downloaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qa.common.errors import InputError, some
from qa.common.files import read_json, sha256_of_file, write_json
from qa.common.text import readable_bytes
from qa.preflight.findings import Finding, ok, problem


def check_downloads(folders: tuple[str, ...], verified: Path, thoroughly: bool = False) -> Iterator[Finding]:
    """Compare downloaded files with their source.json: sizes, and the hashes of files changed since the last check.

    A file counts as unchanged if its size, times of change, inode and expected hash are unchanged. `thoroughly` hashes
    every file.
    """
    known = _remembered(verified)
    intact, hashed, count = [], 0, 0
    for folder in folders:
        faults = []
        files = _recorded(Path(folder) / "source.json")
        if files is None:
            yield problem(f"{folder}: its source.json is missing or broken: remove {folder} to download it again")
            continue
        for name, stated in files.items():
            path = Path(folder) / name
            seal = _seal(path, stated)
            if seal is not None and (thoroughly or known.get(str(path)) != seal):
                hashed += stated["size"]
                seal = seal if sha256_of_file(path) == stated["sha256"] else None
            if seal is None:
                faults.append(f"{name} {_state_of(path, stated)}")
            else:
                known[str(path)] = seal
                count += 1
        if hashed:
            write_json(verified, known)  # after each folder, so that a timeout loses little
        if faults:
            yield problem(f"{folder}: {some(faults)}: remove {folder} to download it again")
        else:
            intact.append(folder)
    if intact:
        yield ok(f"{count} files of {some(intact)} are intact ({readable_bytes(hashed)} hashed, the rest unchanged)")


def _recorded(source: Path) -> dict[str, dict[str, Any]] | None:
    """The files of a download by its source.json, each with `size` and `sha256`; None if it is missing or broken."""
    try:
        files = read_json(source)["files"]
        valid = all(isinstance(file["size"], int) and isinstance(file["sha256"], str) for file in files.values())
    except (IsADirectoryError, NotADirectoryError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return files if files and valid else None


def _remembered(verified: Path) -> dict[str, Any]:
    try:
        known = read_json(verified)
    except InputError:
        return {}
    return known if isinstance(known, dict) else {}


def _seal(path: Path, stated: dict[str, Any]) -> list[Any] | None:
    """The marks that show that a file is still the hashed one; None if the file is missing or has another size."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    if status.st_size != stated["size"]:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, stated["sha256"]]


def _state_of(path: Path, stated: dict[str, Any]) -> str:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != stated["size"]:
        return f"has {size:,} bytes where {stated['size']:,} were downloaded"
    return "is not what was downloaded (its sha256 differs)"
