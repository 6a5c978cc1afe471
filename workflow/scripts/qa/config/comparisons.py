"""Which runs and decodings are compared: `compare_to` and `compare` of the configuration, and what they need."""

from collections.abc import Iterable, Iterator
from functools import partial

from qa.common.errors import InputError
from qa.config.schema import AnyRun, Configuration, Side

WALKTHROUGH = ("baseline", "walkthrough")  # the reference of a configuration that has it and names none


def default_reference(runs: dict[str, AnyRun]) -> str:
    """`baseline/walkthrough`, or the first run with its first decoding if there is none."""
    baseline, walkthrough = WALKTHROUGH
    if baseline in runs and walkthrough in runs[baseline].decodings:
        return f"{baseline}/{walkthrough}"
    name, run = next(iter(runs.items()))
    return f"{name}/{run.decodings[0]}"


def reference(config: Configuration) -> Side | None:
    """The side that other runs are compared with, if there is one. Raises InputError if no run has it."""
    return None if config.compare_to is None else _side("compare_to", config.compare_to, config)


def pairs(config: Configuration) -> list[tuple[Side, Side]]:
    """The pairs of `compare`. Raises InputError if no run has a side, and for pairs that cannot be compared."""
    return [_pair(f"compare.{number}", texts, config) for number, texts in enumerate(config.compare)]


def faults(config: Configuration) -> Iterator[str]:
    """What is wrong with `compare_to` and with each pair of `compare`, as lines that begin with the key path."""
    checks = [partial(_pair, f"compare.{at}", texts, config) for at, texts in enumerate(config.compare)]
    for check in (partial(reference, config), *checks):
        try:
            check()
        except InputError as error:
            yield str(error)


def _pair(where: str, texts: list[str], config: Configuration) -> tuple[Side, Side]:
    first, second = (_side(f"{where}.{place}", text, config) for place, text in enumerate(texts))
    if first == second:
        raise InputError(f"{where}: {texts[0]} is compared with itself; name two different sides")
    if not set(config.all_runs[first[0]].evaluate_on) & set(config.all_runs[second[0]].evaluate_on):
        raise InputError(f"{where}: {texts[0]} and {texts[1]} share no split; give their `evaluate_on` one")
    return first, second


def _side(where: str, text: str, config: Configuration) -> Side:
    run, slash, decoding = text.partition("/")
    if not slash:
        raise InputError(f"{where}: {text!r} is not written `run/decoding`")
    if run not in config.all_runs:
        raise InputError(f"{where}: no run `{run}` among {', '.join(config.all_runs)}")
    known = config.all_runs[run].decodings
    if decoding not in known:
        raise InputError(f"{where}: no decoding `{decoding}` among those of run `{run}`: {', '.join(known)}")
    return run, decoding


def compared(
    config: Configuration, scored: Iterable[tuple[str, str, str, str]]
) -> tuple[list[tuple[str, str, str, str, str]], list[tuple[str, str, str, str]]]:
    """The rows of comparison.csv, and which of `scored` (see lineage.scored) they need.

    A row is (`dataset/split`, run, decoding, reference run, its decoding), on each split that both are evaluated on.
    Against `compare_to`: each other run with its first decoding, and the other decodings of the reference's own run.
    Then the pairs of `compare`. The p-values are corrected for all rows, so there is none that nobody asked for.
    """
    scored = list(scored)
    splits: dict[Side, dict[str, None]] = {}
    for run, _, split, decoding in scored:
        splits.setdefault((run, decoding), {})[split] = None
    base = reference(config)
    asked = []
    if base is not None:
        sides = ((run, by) for run, by in splits if run == base[0] or by == config.all_runs[run].decodings[0])
        asked = [(side, base) for side in sides if side != base]
    asked += pairs(config)
    rows = [
        (split, *first, *second)
        for first, second in dict.fromkeys(asked)
        for split in splits[first]
        if split in splits[second]
    ]
    needed = {(row[0], *side) for row in rows for side in (row[1:3], row[3:])}
    return rows, [key for key in scored if (key[2], key[0], key[3]) in needed]
