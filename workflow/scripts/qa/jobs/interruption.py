"""When a training must stop itself: before its job's walltime ends, or because it was told to by a signal."""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from qa.jobs import slurm

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
ASK_AGAIN = 300.0  # seconds until SLURM is asked anew: walltimes can be changed while a job runs
SAFETY = 2.0  # file systems and nodes are not always as fast as they just were

log = logging.getLogger(__name__)


class Requests:
    """Signals that ask for an end: SIGTERM (a walltime, preemption, scancel) and SIGUSR1 (asked for by the user).

    A process that works for another (`master`, its number) also stops when that one is gone, or has written the name of
    a signal to the file `told`.
    """

    def __init__(self, master: int | None = None, told: Path | None = None) -> None:
        self.noted: str | None = None
        self.master, self.told = master, told

    @property
    def received(self) -> str | None:
        """The name of the signal, None while there was none."""
        if self.noted is None and self.master is not None and not Path(f"/proc/{self.master}").exists():
            return "SIGTERM"
        if self.noted is None and self.told is not None and self.told.exists():
            return self.told.read_text() or None
        return self.noted

    def note(self, number: int, frame: object = None) -> None:
        """Handle a signal: remember it, so that the step in work can end and be saved."""
        self.noted = signal.Signals(number).name
        os.write(2, f"{self.noted} received: stopping after this step\n".encode())  # logging may be in use right now


@contextmanager
def requests_noted(master: int | None = None, told: Path | None = None) -> Iterator[Requests]:
    """Note SIGTERM and SIGUSR1 within the block instead of dying of them. Main thread only."""
    requests = Requests(master, told)
    before = {number: signal.signal(number, requests.note) for number in SIGNALS}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pass_on_signals(command: str) -> None:
    """Pass SIGTERM and SIGUSR1 on to children whose command line contains `command`, and survive SIGUSR1 here.

    For the process that waits for a stage's script in a SLURM job; elsewhere it does nothing. With cgroups, as nearly
    everywhere, SLURM sends signals to the direct child of its daemon only: that is Snakemake, not its script. The
    wake-up file descriptor leaves the handlers alone that Snakemake itself sets.
    """
    if slurm.job_id() is None or threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_pass_on, args=(reader, command), daemon=True).start()


def _pass_on(reader: int, command: str) -> None:
    while True:
        for number in set(os.read(reader, 64)) & set(SIGNALS):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if any(command in argument for argument in child.cmdline()):
                        child.send_signal(number)


class Walltime:
    """How much of the SLURM job's walltime is left; no end outside of SLURM, where nobody enforces one.

    SLURM itself is asked, since it knows what a requeue, a group of jobs or `scontrol update` made of the limit. Where
    it does not answer, `asked_minutes` are counted from the start of this process.
    """

    def __init__(self, asked_minutes: float | None = None):
        self.job = slurm.job_id()
        started = psutil.Process().create_time()
        self.fallback = started + 60 * asked_minutes if self.job and asked_minutes else None
        self.end: float | None = None
        self.asked_at = -ASK_AGAIN

    def left(self) -> float | None:
        """Seconds until the job is killed, None where it is not."""
        if self.job and time.monotonic() - self.asked_at >= ASK_AGAIN:
            self.asked_at = time.monotonic()
            self.end = slurm.end_of(self.job) or self.end or self.fallback
        return None if self.end is None else self.end - time.time()


class Pace:
    """How long this training's steps, checkpoints and validations take, as measured; seconds."""

    def __init__(self) -> None:
        self.steps: deque[float] = deque(maxlen=50)
        self.save: float | None = None
        self.validation: float | None = None

    def needed(self, steps: int, validation: bool) -> float:
        """Seconds for `steps` more steps and a checkpoint, with a margin, and a validation where one is due.

        Before the first checkpoint or validation, each counts as one more of the longest steps.
        """
        step = max(self.steps, default=0.0)
        save = step if self.save is None else self.save
        due = (step if self.validation is None else self.validation) if validation else 0.0
        return SAFETY * (steps * step + save + due)
