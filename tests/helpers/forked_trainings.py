"""Trainings of a tiny model, each in a process forked from this one, which has imported everything already.

A line of JSON on stdin asks for a training: the arguments `inputs`, `folder`, `settings`, `options` and `outputs` of
`trainings.train`, and how the training is killed. `operation` is the number of the file operation before which that
happens, null for never. With `bytes`, the training is killed later instead: when it writes a file of more than so many
bytes after that operation. `versions`, where it is set, replaces the packages' versions. The answer is a line of JSON:
`status` as of waitpid, and `operations`, the number of file operations of a training that was not killed.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

import trainings
from preloaded.sitecustomize import at_operation
from qa.training import manifest


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
    """Train in a child process and write the number of file operations; return its exit code."""
    folder = Path(task["folder"])
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    end = kill if task["bytes"] is None else lambda: limit(task["bytes"])
    if task["versions"]:
        manifest.versions = lambda more: task["versions"]
    left = at_operation(task["operation"] or sys.maxsize, str(folder), end)
    trainings.train(task["inputs"], folder, task["settings"], task["options"], "c", task["outputs"])
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
