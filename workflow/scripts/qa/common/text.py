"""Text as people read it in a terminal or a log: durations, sizes, tables, names that are close to another one.

No part of a stage's code digest (see `qa.plan.code_digest`). The libraries load on first use, since most jobs print no
such text.
"""

import math
from collections.abc import Iterable, Sequence

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def printable(text: str, instead: str = " ") -> str:
    """A text in which each character that cannot be shown, such as a line feed, is replaced."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """The known name that is close to an unknown one, as the end of a message; "" if none is."""
    import difflib

    found = difflib.get_close_matches(name, list(known), 1, likeness)
    return f"; did you mean `{found[0]}`?" if found else ""


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 answer`, `1,200 answers`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def readable_seconds(seconds: float, units: int = 2) -> str:
    """A duration in its largest unit and the next: `45 s`, `2 h 5 min`, `3 h`; `?` where it is not finite.

    `units` is 1 or 2. What is smaller is cut off.
    """
    # humanfriendly's are twice as long (`2 hours and 5 minutes`), and infinity is an error there
    if not math.isfinite(seconds):
        return "?"
    left = max(0, round(seconds))
    first = next((number for number, (_, size) in enumerate(UNITS) if left >= size), len(UNITS) - 1)
    parts = []
    for name, size in UNITS[first : first + units]:
        value, left = divmod(left, size)
        parts += [f"{value} {name}"] if value or not parts else []
    return " ".join(parts)


def readable_bytes(size: float) -> str:
    """A size in binary units: `412 bytes`, `1.25 MiB`, `2.1 GiB`."""
    import humanfriendly

    return humanfriendly.format_size(size, binary=True)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text. Each column is as wide as its widest cell."""
    import tabulate

    text = tabulate.tabulate(rows, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())
