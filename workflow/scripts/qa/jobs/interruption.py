"""When a training must stop: before its job's walltime ends, or when a signal asks for it."""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from qa.jobs import slurm

PASSED_ON = (signal.SIGTERM, signal.SIGUSR1)  # by Snakemake to the script of a SLURM job
OF_TERMINAL = (signal.SIGINT, signal.SIGHUP)  # Ctrl-C, and the loss of the terminal: sent to every process of a run
ASK_AGAIN = 300.0  # seconds until SLURM is asked again: a walltime can change while a job runs
SAFETY = 2.0  # factor: the next step or checkpoint may be slower than the ones measured

log = logging.getLogger(__name__)


class Requests:
    """Signals that ask for an end: PASSED_ON (a walltime, preemption, scancel, the user) and OF_TERMINAL.

    A second SIGINT raises KeyboardInterrupt. A worker also stops when the process `master` (its number) is gone, or has
    written a signal's name to the file `stop`.
    """

    def __init__(self, master: int | None = None, stop: Path | None = None) -> None:
        self.noted: str | None = None
        self.master, self.stop = master, stop

    @property
    def received(self) -> str | None:
        """The name of the signal, or None."""
        if self.noted is None and self.master is not None and not Path(f"/proc/{self.master}").exists():
            return "SIGTERM"
        if self.noted is None and self.stop is not None and self.stop.exists():
            return self.stop.read_text() or None
        return self.noted

    def note(self, number: int, frame: object = None) -> None:
        """Handle a signal: remember it, so that the current step can end and be saved."""
        if number == signal.SIGINT and self.noted == "SIGINT":
            raise KeyboardInterrupt
        self.noted = signal.Signals(number).name
        again = "; Ctrl-C again ends it at once, without saving" if number == signal.SIGINT else ""
        with suppress(OSError):  # the terminal may have gone; not by logging, which may be busy
            os.write(2, f"{self.noted} received: training saves after this step and stops{again}\n".encode())


@contextmanager
def signals_handled(handler: Any) -> Iterator[None]:
    """Set a handler of these signals, as `signal.signal` takes it, within the block. Main thread only.

    A signal of the terminal that is ignored stays ignored: `nohup` and `&` in a shell's script ask for that.
    """
    numbers = [*PASSED_ON, *(number for number in OF_TERMINAL if signal.getsignal(number) != signal.SIG_IGN)]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def pass_on_signals(command: str) -> None:
    """Pass SIGTERM and SIGUSR1 on to children whose command line contains `command`, and survive SIGUSR1 here.

    This is for the process that waits for a stage's script in a SLURM job; elsewhere it does nothing. With cgroups, as
    on nearly every cluster, SLURM sends signals only to the direct child of its daemon: to Snakemake, not to the
    script. A wake-up file descriptor does not disturb the handlers that Snakemake sets.
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
        for number in set(os.read(reader, 64)) & set(PASSED_ON):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if any(command in argument for argument in child.cmdline()):
                        child.send_signal(number)


class Walltime:
    """The walltime that the SLURM job has left. Outside of SLURM there is no end, since nobody enforces one.

    SLURM is asked, because a requeue, a group of jobs or `scontrol update` may have changed the limit. If SLURM does
    not answer, `requested_minutes` count from the start of this process.
    """

    def __init__(self, requested_minutes: float | None = None):
        self.job = slurm.job_id()
        started = psutil.Process().create_time()
        self.fallback = started + 60 * requested_minutes if self.job and requested_minutes else None
        self.end: float | None = None
        self.asked_at = -ASK_AGAIN

    def left(self) -> float | None:
        """Seconds until the job is killed, or None if it will not be."""
        if self.job and time.monotonic() - self.asked_at >= ASK_AGAIN:
            self.asked_at = time.monotonic()
            self.end = slurm.end_of(self.job) or self.end or self.fallback
        return None if self.end is None else self.end - time.time()


class Pace:
    """Measured seconds that this training's steps, checkpoints and validations take."""

    def __init__(self) -> None:
        self.steps: deque[float] = deque(maxlen=50)
        self.save: float | None = None
        self.validation: float | None = None

    def needed(self, steps: int, validation: bool) -> float:
        """Seconds for `steps` more steps, a checkpoint, and a validation if one is due, times SAFETY.

        Until the first checkpoint or validation is measured, it counts as one more of the longest steps.
        """
        step = max(self.steps, default=0.0)
        save = step if self.save is None else self.save
        due = (step if self.validation is None else self.validation) if validation else 0.0
        return SAFETY * (steps * step + save + due)
