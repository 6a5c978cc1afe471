"""Holding out: whole articles of a training split that calibrate a model and never train it."""

import hashlib
import logging
from collections import defaultdict
from pathlib import Path

from qa.errors import InputError
from qa.files import written_aside

TOO_MUCH = 0.25  # of what is held out: a title with more would speak for itself alone, so its contexts are told apart

log = logging.getLogger(__name__)


def held_out(titles: list[str], contexts: list[str], share: float) -> list[bool]:
    """Which questions are held out, given each one's title and context: about `share` of them, from 0 to 1.

    Articles go as a whole, so that no text of calibration was trained on; single contexts do where the title is missing
    or holds more than TOO_MUCH of the wanted number. A pure function of the texts, whatever their order: articles are
    taken in the order of their digests while they fit. A context that stands under several titles is on one side.
    """
    wanted = share * len(titles)
    sizes: dict[str, int] = defaultdict(int)
    for title in titles:
        sizes[title] += 1
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, (title, context) in enumerate(zip(titles, contexts, strict=True)):
        apart = not title or sizes[title] > TOO_MUCH * wanted
        groups["context" if apart else "title", context if apart else title].append(number)
    taken: set[str] = set()
    total = 0
    for key in sorted(groups, key=_digest):
        if total + len(groups[key]) <= wanted:
            total += len(groups[key])
            taken.update(contexts[number] for number in groups[key])
    return [context in taken for context in contexts]


def divide(records_file: str | Path, share: float, kept: str | Path, held: str | Path) -> tuple[int, int]:
    """Write the records that train and those that are held out as two files of the records' schema; their numbers.

    Raises InputError where one side would be empty.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as parquet

    table = parquet.read_table(records_file)
    chosen = held_out(table.column("title").to_pylist(), table.column("context").to_pylist(), share)
    numbers = chosen.count(False), chosen.count(True)
    if not all(numbers):
        raise InputError(
            f"{records_file}: holding out {share:g} of {len(chosen):,} questions by whole articles or contexts leaves "
            f"{numbers[0]:,} for training and {numbers[1]:,} for calibration; change hold_out, or give more data"
        )
    mask = pa.array(chosen)
    for path, part in ((kept, pc.invert(mask)), (held, mask)):
        with written_aside(path) as aside:
            parquet.write_table(table.filter(part), aside, compression="zstd")
    log.info(f"{numbers[1]:,} questions held out for calibration, {numbers[0]:,} train")
    return numbers


def _digest(key: tuple[str, str]) -> str:
    return hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()
