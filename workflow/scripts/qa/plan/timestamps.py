"""Time stamps, by which Snakemake decides what to run: none may be ahead of the clock."""

import time
from collections.abc import Iterable
from pathlib import Path

from qa.common.errors import InputError, some
from qa.common.files import sha256_of_file
from qa.common.text import readable_seconds

SKEW = 300.0  # seconds by which the clocks of a file server and of this machine may differ
HASHED = 64_000_000  # bytes of a file that are hashed, in a tenth of a second
STAMP = ".snakemake_timestamp"  # Snakemake's time stamp of a folder that a rule has made


def check(paths: Iterable[str | Path]) -> None:
    """Raise InputError for files or folders with a time stamp in the future. Missing paths are skipped.

    Snakemake would miss changes of their inputs, and would rerun the rules that read them again and again.
    """
    now = time.time()
    stamps = {str(path): changed_at(path) for path in paths}
    ahead = {path: stamp - now for path, stamp in stamps.items() if stamp is not None and stamp > now + SKEW}
    if ahead:
        raise InputError(
            f"{some(list(ahead))}: changed later than now, by up to {readable_seconds(max(ahead.values()))}; "
            "Snakemake decides by time stamps what to run. If this machine's clock is wrong now, set it right; if it "
            'was wrong before: find resources results -newermt now -exec touch -d "$(date -R)" {} + (and touch your '
            "own files)"
        )


def stamped(own_files: dict[tuple[str, str], list[str]], results: Iterable[str], root: str = "") -> list[str | Path]:
    """Files and folders whose time stamps matter most: the user's own files, downloads, questions, windows, results.

    `own_files` are the user's own files by kind (`models`, `datasets`) and name; `results` are the paths of results;
    `root` is the folder of resources/ and results/.
    """
    downloads = [Path(root, "resources", kind, name) for kind, name in own_files]
    folder = Path(root, "results")
    between = [*folder.glob("questions/*/[!.]*"), *folder.glob("windows/*/*/[!.]*")]
    return [*(file for files in own_files.values() for file in files), *downloads, *between, *results]


def changed_at(path: str | Path) -> float | None:
    """Snakemake's time stamp of a file or folder, in seconds since 1970; None for a missing one."""
    for file in (Path(path, STAMP), Path(path)):
        try:
            return file.stat().st_mtime
        except OSError:
            continue
    return None


def state_of(file: str | Path) -> str:
    """A text that changes with the file's bytes, for params: a copy that replaces the file can keep an old time stamp.

    The first 16 digits of its SHA-256. Above 64 MB, which takes too long, its size and its time stamp in seconds.
    """
    stat = Path(file).stat()
    return sha256_of_file(file)[:16] if stat.st_size <= HASHED else f"{stat.st_size} bytes of {int(stat.st_mtime)}"
