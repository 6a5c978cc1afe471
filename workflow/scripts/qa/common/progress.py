"""One line now and then on how far a stage is: told, written to its log, and read again by `qa.jobs.status`.

No part of a stage's code digest (see `qa.plan.code_digest`): what is told changes no result.
"""

import logging
import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from qa.common.text import readable_seconds

EVERY = 5.0  # seconds between two lines; what takes less stays silent
LINE = re.compile(
    r"(?P<label>[^:]+): (?P<done>[\d,]+)/(?P<total>[\d,]+|\?) (?P<unit>\S+), (?P<rate>\S+) \S+/s, (?P<left>[^,]+) left"
    r"(?:, (?P<remark>.*))?"
)
STAMP = re.compile(r"\d\d:\d\d:\d\d \w+: INFO ")  # what stage.stage puts before a line

log = logging.getLogger(__name__)


class Progress:
    """Logs `label: done/total unit, rate, time left`, at most once in five seconds; the end only after such a line.

    A `total` of 0 is not known. The five seconds are those of all parts of a stage, of which each may be shorter.
    """

    last = -math.inf  # when any of them has told something, or might have

    def __init__(self, label: str, total: int, unit: str, done: int = 0):
        self.label, self.total, self.unit = label, total, unit
        self.first = self.done = done
        self.started = time.monotonic()
        self.told = False
        if self.started - Progress.last > 2 * EVERY:
            Progress.last = self.started

    @property
    def rate(self) -> float:
        """Units a second since the start, 0 before the first."""
        return (self.done - self.first) / max(time.monotonic() - self.started, 1e-9)

    def reach(self, done: int, remark: str = "") -> None:
        """Note that `done` units are done; `remark` stands at the line's end."""
        at_end = done >= self.total > self.done
        self.done = done
        now = time.monotonic()
        if now - Progress.last >= EVERY or (at_end and self.told):
            Progress.last, self.told = now, True
            rate, total = self.rate, f"{self.total:,}" if self.total else "?"
            left = readable_seconds((self.total - done) / rate) if rate and self.total else "?"
            line = f"{self.label}: {done:,}/{total} {self.unit}, {_readable(rate)} {self.unit}/s, {left} left"
            log.info(f"{line}, {remark}" if remark else line)


def watched(items: Any, label: str, unit: str, total: int | None = None) -> Iterator[Any]:
    """Yield the items, and tell how many of them are done; `total` is for those that do not know their number."""
    progress = Progress(label, len(items) if total is None else total, unit)
    for done, item in enumerate(items, 1):
        yield item
        progress.reach(done)


def _readable(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 1 else f"{rate:.2g}"


@dataclass(frozen=True)
class Told:
    """A progress line of a log, whole and in parts: `total` 0 if not known, `rate` units a second, `left` in words."""

    line: str
    label: str
    done: int
    total: int
    unit: str
    rate: float
    left: str
    remark: str


def read(lines: Iterable[str]) -> Told | None:
    """The last progress line among those of a log; None where there is none."""
    found = None
    for line in lines:
        stamp = STAMP.match(line)
        if stamp and (match := LINE.fullmatch(line, stamp.end())):
            found = match
    if found is None:
        return None
    parts = found.groupdict(default="")
    try:
        done, total, rate = (
            float(parts.pop(name).replace(",", "").replace("?", "0")) for name in ("done", "total", "rate")
        )
        return Told(line=found[0], done=int(done), total=int(total), rate=rate, **parts)
    except (ValueError, OverflowError):  # a line that only looks like one
        return None
