"""Run first by each Python of a run under test: what happens there to its files.

QA_KILLED_AT=`STAGE NUMBER` ends the stage's script, and all that belongs to it, at a file operation (`snakemake` is
Snakemake itself). QA_LATE=`STAGE SECONDS`: its files get their final names so much later, as on a slow file system.
QA_AT_WRITING=`STAGE DEED` does something just before the first of its results is written aside: `stop` halts it as
SIGSTOP does, `handles` leaves it no more file handles, any other word is a file to write its number to, such as that of
a group of processes.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REMOVING = ("os.remove", "os.rmdir")
CHANGING = ("os.rename", "os.mkdir", "os.link", *REMOVING)


def script() -> str:
    """The stage that this process works for: by the name of its script, else `snakemake` for the main process."""
    for part in sys.orig_argv:
        if ".snakemake/scripts/" in part:
            return part.removesuffix(".py").rpartition(".")[2]
    return "snakemake" if "--profile" in sys.orig_argv else ""


def at_operation(number: int, folder: str, action: Callable[[], None], ending: str = "") -> list[int]:
    """Do something before the `number`-th operation that changes a file, of a name that ends so, below a folder.

    Returns a list of how many there still are to go.
    """
    left, below = [number], Path(folder).absolute()

    def hook(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if not writes and event not in CHANGING:
            return
        name = arguments[0]
        if not isinstance(name, str | os.PathLike) or "__pycache__" in os.fspath(name):
            return
        if not os.fspath(name).endswith(ending):
            return
        where = Path()
        if event in REMOVING and arguments[1] >= 0:  # as rmtree does, by an open folder
            where = Path(f"/proc/self/fd/{arguments[1]}").readlink()
        if below in (where / name).absolute().parents:
            left[0] -= 1
            if left[0] == 0:
                action()

    sys.addaudithook(hook)
    return left


def late(seconds: str) -> None:
    """Have renamed files appear under their new names later."""

    def replace(source: str, target: str) -> None:
        away = f"{source}.late"
        Path(source).rename(away)
        command = ["sh", "-c", 'sleep "$0"; mv "$1" "$2"', seconds, os.fspath(away), os.fspath(target)]
        subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    os.replace = replace


def at_writing(deed: str) -> None:
    """Do it: see above."""
    if deed == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif deed == "handles":
        lowest = os.dup(0)  # the next that would be given
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, lowest))
    else:
        Path(deed).write_text(str(os.getpid()))


if "QA_LATE" in os.environ:
    stage, seconds = os.environ["QA_LATE"].split()
    if script() == stage:
        late(seconds)
if "QA_KILLED_AT" in os.environ:
    stage, number = os.environ["QA_KILLED_AT"].split()
    if script() == stage:
        at_operation(int(number), str(Path.cwd()), lambda: os.killpg(os.getpgrp(), signal.SIGKILL))
if "QA_AT_WRITING" in os.environ:
    stage, deed = os.environ["QA_AT_WRITING"].split()
    if script() == stage:
        for folder in ("results", "resources"):  # what is removed first is an older `.NAME.partial`
            at_operation(1, folder, lambda: at_writing(deed), ".partial")
