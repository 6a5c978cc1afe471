"""Which runs and decodings are compared: `compare_to` and `compare` of the configuration, and what they ask for."""

from collections.abc import Iterable
from typing import Any

from qa.common.errors import InputError

WALKTHROUGH = ("baseline", "walkthrough")  # the reference where the configuration names none and has this one

Side = tuple[str, str]  # run, decoding


def comparisons(config: dict[str, Any], runs: dict[str, Any]) -> dict[str, Any]:
    """`compare_to`, a side, and `compare`, pairs of sides, of a configuration whose merged runs are `runs`.

    Raises InputError for what is no run with such a decoding, and for pairs that cannot be compared.
    """
    named = config.get("compare_to")
    if named is not None:
        reference = _side("compare_to", named, runs)
    elif WALKTHROUGH[1] in runs.get(WALKTHROUGH[0], {"decodings": []})["decodings"]:
        reference = WALKTHROUGH
    else:
        first = next(iter(runs))
        reference = first, runs[first]["decodings"][0]
    return {"compare_to": reference, "compare": [_pair(*pair, runs) for pair in enumerate(config.get("compare", []))]}


def _pair(number: int, texts: list[str], runs: dict[str, Any]) -> tuple[Side, Side]:
    where = f"compare.{number}"
    one, other = (_side(f"{where}.{place}", text, runs) for place, text in enumerate(texts))
    if one == other:
        raise InputError(f"config: {where}: {texts[0]} against itself; name two")
    if not set(runs[one[0]]["evaluate_on"]) & set(runs[other[0]]["evaluate_on"]):
        raise InputError(f"config: {where}: {texts[0]} and {texts[1]} share no split; give their `evaluate_on` one")
    return one, other


def _side(where: str, text: str, runs: dict[str, Any]) -> Side:
    run, slash, decoding = text.partition("/")
    if not slash:
        raise InputError(f"config: {where}: {text!r} is not written `run/decoding`")
    if run not in runs:
        raise InputError(f"config: {where}: no run `{run}` among {', '.join(runs)}")
    if decoding not in runs[run]["decodings"]:
        known = ", ".join(runs[run]["decodings"])
        raise InputError(f"config: {where}: no decoding `{decoding}` among those of run `{run}`: {known}")
    return run, decoding


def compared(
    resolved: dict[str, Any], scored: Iterable[tuple[str, str, str, str]]
) -> tuple[list[tuple[str, str, str, str, str]], list[tuple[str, str, str, str]]]:
    """The rows of comparison.csv, and which of `scored` (see settings.scored) they need.

    A row is (`dataset/split`, run, decoding, reference run, its decoding): each run and decoding against `compare_to`,
    then the pairs of `compare`, on each split that both are evaluated on.
    """
    scored = list(scored)
    splits: dict[Side, dict[str, None]] = {}
    for run, _, split, decoding in scored:
        splits.setdefault((run, decoding), {})[split] = None
    reference = resolved["compare_to"]
    pairs = [(side, reference) for side in splits if side != reference] + resolved["compare"]
    rows = [
        (split, *side, *other)
        for side, other in dict.fromkeys(pairs)
        for split in splits[side]
        if split in splits[other]
    ]
    taking_part = {(row[0], *side) for row in rows for side in (row[1:3], row[3:])}
    return rows, [(run, variant, split, by) for run, variant, split, by in scored if (split, run, by) in taking_part]
