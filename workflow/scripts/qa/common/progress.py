"""How far a stage is: a line in its log for people, and a small file beside the job's record for `qa status`.

No part of a stage's code digest (see `qa.plan.code_digest`), since progress changes no result.
"""

import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qa.common.files import read_json, write_json
from qa.common.text import readable_seconds

EVERY = 5.0  # seconds between two lines; a stage that takes less writes none
FILE = "QA_PROGRESS_FILE"  # environment variable: where this job's progress goes, in its own processes too

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgressState:
    """How far one part of a stage is. `total`: 0 if unknown; `rate`: units a second; `written`: ISO time in UTC."""

    label: str
    done: int
    total: int
    unit: str
    rate: float
    seconds_left: float | None
    remark: str
    written: str

    @property
    def line(self) -> str:
        """The state for people: `train: 1,200/8,250 steps, 2.1 steps/s, 55 min left, loss 1.25`."""
        rate = f"{self.rate:,.1f}" if self.rate >= 1 else f"{self.rate:.2g}"
        left = "?" if self.seconds_left is None else readable_seconds(self.seconds_left)
        total = f"{self.total:,}" if self.total else "?"
        line = f"{self.label}: {self.done:,}/{total} {self.unit}, {rate} {self.unit}/s, {left} left"
        return f"{line}, {self.remark}" if self.remark else line

    @property
    def age(self) -> float:
        """Seconds since it was written."""
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(self.written)).total_seconds())


class Progress:
    """Logs and saves how far a part of a stage is, at most once in five seconds, and its end after such a line.

    The five seconds count for all parts of a stage together, since each may be shorter. A `total` of 0 is unknown.
    """

    last = -math.inf  # when any part wrote, or began after a long pause

    def __init__(self, label: str, total: int, unit: str, done: int = 0):
        self.label, self.total, self.unit = label, total, unit
        self.first = self.done = done
        self.started = time.monotonic()
        self.shown = False
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
        if now - Progress.last >= EVERY or (at_end and self.shown):
            Progress.last, self.shown = now, True
            rate, written = self.rate, datetime.now(UTC).isoformat(timespec="seconds")
            left = (self.total - done) / rate if rate and self.total else None
            state = ProgressState(self.label, done, self.total, self.unit, rate, left, remark, written)
            log.info(state.line)
            _save(state)


def _save(state: ProgressState) -> None:
    """Write the state to this job's file; of the processes of a training only the first does, and no error matters."""
    file = os.environ.get(FILE)
    if file and os.environ.get("RANK", "0") == "0":
        with suppress(OSError, ValueError):
            write_json(file, asdict(state))


def watched(items: Any, label: str, unit: str, total: int | None = None) -> Iterator[Any]:
    """Yield the items and show how many are done; `total` is for items without a length."""
    progress = Progress(label, len(items) if total is None else total, unit)
    for done, item in enumerate(items, 1):
        yield item
        progress.reach(done)


def read(file: Path) -> ProgressState | None:
    """The state in a file that `Progress` wrote; None where the file is missing or holds something else."""
    try:
        state = ProgressState(**read_json(file))
        zone = datetime.fromisoformat(state.written).tzinfo
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return state if zone and all(isinstance(getattr(state, part.name), part.type) for part in fields(state)) else None
