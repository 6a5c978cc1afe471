"""Numbers and tables as people read them in a terminal or a log.

No part of a stage's code digest (see `qa.plan.code_digest`). The libraries load on first use, since most jobs print no
such text.
"""

import math
from collections.abc import Sequence


def readable_seconds(seconds: float, units: int = 2) -> str:
    """A duration in its `units` largest units: `45 seconds`, `2 hours and 5 minutes`; `?` where it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    import humanfriendly

    return humanfriendly.format_timespan(round(seconds), max_units=units)


def readable_bytes(size: float) -> str:
    """A size in binary units: `412 bytes`, `1.25 MiB`, `2.1 GiB`."""
    import humanfriendly

    return humanfriendly.format_size(size, binary=True)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text. Each column is as wide as its widest cell."""
    import tabulate

    text = tabulate.tabulate(rows, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())
