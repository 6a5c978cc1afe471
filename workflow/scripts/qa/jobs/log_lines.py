"""The last lines of a job's log, as a terminal can show them."""

import os
import re
from pathlib import Path

from qa.common.text import printable

LAST_LINES = 10
TAIL = 2**16  # bytes of a log that are read
STAMP = re.compile(r"\d\d:\d\d:\d\d \w+: [A-Z]+ ")  # of a stage's own lines
FRAME = re.compile(r" *File \".*\", line \d+")
TRACEBACK = "Traceback (most recent call last):"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # sequences of terminals, such as colours


def error_lines(file: str | Path, count: int = LAST_LINES) -> list[str]:
    """The last lines of a log that are not empty, as `plain` text; none if the file cannot be read.

    A traceback at the end is reduced to the error and the place that raised it.
    """
    try:
        with open(file, "rb") as stream:
            stream.seek(-min(TAIL, stream.seek(0, os.SEEK_END)), os.SEEK_END)
            text = stream.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return []
    lines = [plain(line).rstrip() for line in text.splitlines() if line.strip()]
    own = max((number for number, line in enumerate(lines) if STAMP.match(line)), default=-1) + 1
    if TRACEBACK in lines[own:]:
        trace = [line for line in lines[own:] if line.strip(" ^~")]
        place = max((number for number, line in enumerate(trace) if FRAME.match(line)), default=0)
        lines = [*lines[:own], *trace[place:][-count + 1 :]]
    return lines[-count:]


def plain(text: str) -> str:
    """A text without escape sequences; every other character that cannot be shown becomes a space."""
    return printable(ESCAPE.sub("", text))
