"""The findings of the checks before a run, and how several checks run at once, each with a time limit."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

PROBLEM, WARNING, OK = "problem", "warning", "ok"


@dataclass(frozen=True)
class Finding:
    """One line for the user: a `problem` stops the run and says what to do, a `warning` and an `ok` do not."""

    kind: str
    text: str


problem = partial(Finding, PROBLEM)  # would make the run fail
warning = partial(Finding, WARNING)  # may make the run fail, or a check that was not possible
ok = partial(Finding, OK)  # a check that found no problem


def collected(checks: dict[str, Callable[[], Iterable[Finding]]], seconds: float) -> list[Finding]:
    """The findings of several checks, which run at once, in the order of the checks.

    A check that raises an exception or takes more than `seconds` gives a warning with its name. Its findings until
    then count.
    """
    found: dict[str, list[Finding]] = {name: [] for name in checks}

    def run(name: str) -> bool:
        for finding in checks[name]():  # one by one, so that a later exception loses none
            found[name].append(finding)
        return True

    findings: list[Finding] = []
    for name, result in zip(checks, at_once([lambda name=name: run(name) for name in checks], seconds), strict=True):
        findings += found[name]
        checked = "not fully checked" if found[name] else "not checked"
        if result is None:
            findings.append(warning(f"{name}: {checked}, it took more than {seconds:g} s"))
        elif isinstance(result, Exception):
            findings.append(warning(f"{name}: {checked} ({type(result).__name__}: {result})"))
    return findings


def at_once(calls: list[Callable[[], Any]], seconds: float) -> list[Any]:
    """The result or the exception of each call; None for a call that takes more than `seconds`.

    The threads are daemons, not a pool: at its exit, the interpreter waits for the threads of a pool.
    """
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(results)  # a call that still runs changes this copy no more
