"""Trainings of a tiny model, each in a process forked from this one, which has imported everything already.

Reads a line of JSON a training on stdin: `inputs`, `settings`, `running`, `outputs` as for training.train, and what
ends it: `operation`, the file operation before which it is killed (null for none), and `bytes`: where that is given it
is not killed there, but from then on when it makes a file larger than so many bytes. `versions` are taken for those of
the packages, where they are given. Answers with a line of JSON each:
`status` as of waitpid, and `operations`, how many there were of a training that was not killed.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

from preloaded.sitecustomize import at_operation
from qa.training import manifest
from qa.training import train as training


def main() -> None:
    """Fork a process for each line."""
    for line in sys.stdin:
        task = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os._exit(train(task, writer))
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as stream:
            counted = stream.read()
        print(json.dumps({"status": status, "operations": int(counted or 0)}), flush=True)


def train(task: dict, writer: int) -> int:
    """Train as told, in a child; return its exit code."""
    folder = Path(task["outputs"]["model"]).parent
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    end = kill if task["bytes"] is None else lambda: limit(task["bytes"])
    if task["versions"]:
        manifest.versions = lambda: task["versions"]
    left = at_operation(task["operation"] or sys.maxsize, str(folder), end)
    names = ("inputs", "settings", "running", "outputs")
    training.train(
        **{name: task[name] for name in names}, seed=1, identity={"run": "r", "variant": "seed-1", "code": "c"}
    )
    os.write(writer, str(sys.maxsize - left[0]).encode())
    return 0


def kill() -> None:
    """As the kernel does when memory is short: at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def limit(size: int) -> None:
    """Have the kernel end this process in the middle of the next file that outgrows `size` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


if __name__ == "__main__":
    main()
