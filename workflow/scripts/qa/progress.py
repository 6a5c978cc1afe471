"""One line now and then on how far a stage is."""

import logging
import time

from qa.files import readable_seconds

log = logging.getLogger(__name__)
EVERY = 5.0  # seconds between two lines


class Progress:
    """Logs `label: done/total unit, rate, time left`, at most once in five seconds, and once at the end."""

    def __init__(self, label: str, total: int, unit: str, done: int = 0):
        self.label, self.total, self.unit = label, total, unit
        self.first = self.done = done
        self.started = self.last = time.monotonic()

    @property
    def rate(self) -> float:
        """Units a second since the start, 0 before the first."""
        return (self.done - self.first) / max(time.monotonic() - self.started, 1e-9)

    def reach(self, done: int, remark: str = "") -> None:
        """Note that `done` units are done."""
        self.done = done
        now = time.monotonic()
        if now - self.last >= EVERY or done >= self.total:
            self.last = now
            left = readable_seconds((self.total - done) / self.rate) if self.rate else "?"
            log.info(
                f"{self.label}: {done:,}/{self.total:,} {self.unit}, {self.rate:.1f} {self.unit}/s, {left} left{remark}"
            )
