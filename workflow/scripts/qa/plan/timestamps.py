"""Time stamps that Snakemake decides by: none may be ahead of the clock, and older ones may be of other bytes."""

import time
from collections.abc import Iterable
from pathlib import Path

from qa.common.errors import InputError, some
from qa.common.files import sha256_of_file
from qa.common.text import readable_seconds

SKEW = 300.0  # seconds by which the clocks of a file server and of this machine may differ
HASHED = 64_000_000  # bytes that are hashed within a tenth of a second
STAMP = ".snakemake_timestamp"  # what Snakemake reads in a folder that a rule has made


def check(paths: Iterable[str | Path]) -> None:
    """Raise InputError where files or folders, of those that are there, were changed later than now.

    A clock was wrong then, or is now. Snakemake would not see that what these are made of has changed since, and would
    make what is made of them again and again.
    """
    now = time.time()
    stamps = {str(path): changed_at(path) for path in paths}
    ahead = {path: stamp - now for path, stamp in stamps.items() if stamp is not None and stamp > now + SKEW}
    if ahead:
        raise InputError(
            f"{some(list(ahead))}: changed later than now, by up to {readable_seconds(max(ahead.values()))}; by time "
            "stamps Snakemake decides what to make anew. If this machine's clock is wrong, set it right; if it was "
            'wrong then: find resources results -newermt now -exec touch -d "$(date -R)" {} + (and touch files of '
            "your own)"
        )


def stamped(own_files: dict[tuple[str, str], list[str]], made: Iterable[str]) -> list[str | Path]:
    """Files and folders by whose time stamps Snakemake decides, those of each kind that say most.

    `own_files`: the user's own, by kind and name of what is taken from them; `made`: results by their paths.
    """
    downloads = [f"resources/{kind}/{name}" for kind, name in own_files]
    between = [*Path("results").glob("questions/*/[!.]*"), *Path("results").glob("windows/*/*/[!.]*")]
    return [*(file for files in own_files.values() for file in files), *downloads, *between, *made]


def changed_at(path: str | Path) -> float | None:
    """When a file or folder was changed, as Snakemake sees it, in seconds since 1970; None where there is none."""
    for each in (Path(path, STAMP), Path(path)):
        try:
            return each.stat().st_mtime
        except OSError:
            continue
    return None


def state_of(file: str | Path) -> str:
    """What tells a file's bytes from others, for params: a copy that replaced it may have kept an older time stamp.

    The first 16 digits of its SHA-256; of a file above 64 MB, which would take too long, its size and time in seconds.
    """
    told = Path(file).stat()
    return sha256_of_file(file)[:16] if told.st_size <= HASHED else f"{told.st_size} bytes of {int(told.st_mtime)}"
