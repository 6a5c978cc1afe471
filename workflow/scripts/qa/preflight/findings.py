"""What the checks before a run have found, and a way to make several of them at once, each bounded in time."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

PROBLEM, WARNING, RIGHT = "problem", "warning", "right"


@dataclass(frozen=True)
class Finding:
    """One line for the user: a `problem` says what to do, a `warning` stops nothing, `right` is in order."""

    kind: str
    text: str


def problem(text: str) -> Finding:
    """Something that would make the run fail."""
    return Finding(PROBLEM, text)


def warning(text: str) -> Finding:
    """Something that may go wrong, or that could not be asked."""
    return Finding(WARNING, text)


def right(text: str) -> Finding:
    """Something that was checked and is in order."""
    return Finding(RIGHT, text)


def collected(checks: dict[str, Callable[[], Iterable[Finding]]], seconds: float) -> list[Finding]:
    """Findings of several checks, made at once, in the order of the checks.

    A check that raises, or takes more than `seconds`, gives a warning by its name and stops nothing; what it had found
    until then counts.
    """
    found: dict[str, list[Finding]] = {name: [] for name in checks}

    def make(name: str) -> bool:
        for finding in checks[name]():  # one by one, so that none is lost with a later one
            found[name].append(finding)
        return True

    findings: list[Finding] = []
    for name, result in zip(checks, at_once([lambda n=n: make(n) for n in checks], seconds), strict=True):
        findings += found[name]
        to_the_end = " to the end" if found[name] else ""
        if result is None:
            findings.append(warning(f"{name}: not checked{to_the_end}, it took more than {seconds:g} s"))
        elif isinstance(result, Exception):
            findings.append(warning(f"{name}: not checked{to_the_end} ({type(result).__name__}: {result})"))
    return findings


def at_once(calls: list[Callable[[], Any]], seconds: float) -> list[Any]:
    """What each call returns or raises, None for one that takes more than `seconds`.

    Threads of one's own and no pool: the interpreter waits for those of a pool when it exits, however long they take.
    """
    results: list[Any] = [None] * len(calls)
    done = [threading.Event() for _ in calls]

    def run(number: int) -> None:
        try:
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error
        done[number].set()

    for number in range(len(calls)):
        threading.Thread(target=run, args=(number,), daemon=True).start()
    end = time.monotonic() + seconds
    return [results[n] if event.wait(max(0.0, end - time.monotonic())) else None for n, event in enumerate(done)]
