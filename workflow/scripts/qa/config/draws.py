"""Draws: settings of a run that are drawn at random from distributions, as in random search (Bergstra and Bengio 2012).

A value depends on the run's `draw_seed`, the setting's path and the number of the draw only. So the same configuration
has the same values everywhere and for ever, and more draws keep the values of the first ones.
"""

import math
import random
from typing import Any

from qa.common.errors import InputError
from qa.config.fields import from_text
from qa.config.messages import near, shown

DISTRIBUTIONS = ("uniform", "log_uniform", "choice")
DIGITS = 3  # significant digits of a drawn number
MOST = 1000  # combinations of one run: more is most likely a mistake, and clusters queue no more
TRIES = 100  # for each point, before too few different points seem possible


def is_distribution(path: str, value: Any) -> bool:
    """Whether a setting's value is to be drawn: a mapping, but for a `model` that is an earlier run's."""
    return isinstance(value, dict) and (path != "model" or any(key in DISTRIBUTIONS for key in value))


def points(where: str, distributions: dict[str, dict[str, Any]], whole: dict[str, bool], run: Any) -> list[Any]:
    """The run's first `draws` points that differ, each with a value for each path of `distributions`.

    `whole` says which paths take whole numbers only. `where` is the run's key path. Raises InputError for a wrong
    number of draws, a wrong distribution, and distributions with fewer different points than draws.
    """
    draws, seed = from_text(run.get("draws")), run.get("draw_seed", 0)
    if not isinstance(draws, int) or not 1 <= draws <= MOST:
        raise InputError(
            f"{where}.draws: {shown(draws)} is not allowed; {', '.join(distributions)} is drawn at random, so write "
            f"how many points to draw, from 1 to {MOST:,}"
        )
    drawn = {path: _checked(f"{where}.{path}", value, whole[path]) for path, value in distributions.items()}
    found: dict[str, dict[str, Any]] = {}
    for number in range(TRIES * draws):
        point = {
            path: _drawn(*distribution, whole[path], random.Random(f"{seed}/{path}/{number}").random())
            for path, distribution in drawn.items()
        }
        found.setdefault(repr(point), point)
        if len(found) == draws:
            return list(found.values())
    raise InputError(
        f"{where}.draws: only {len(found)} of {draws} points differ; write fewer draws, or list the values instead"
    )


def _checked(where: str, distribution: dict[str, Any], whole: bool) -> tuple[str, list[Any]]:
    """The kind of a distribution, and its values with numbers in place of text."""
    kind, *more = distribution or [""]
    if more or kind not in DISTRIBUTIONS:
        raise InputError(f"{where}: {shown(distribution)} is no distribution; {near(kind, DISTRIBUTIONS)}")
    values = distribution[kind]
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}.{kind}: {shown(values)} is not allowed; write a list of values")
    values = [from_text(value) for value in values]
    if kind == "choice":
        return kind, values
    numbers = [value for value in values if isinstance(value, int if whole else int | float)]
    low, high = numbers if len(numbers) == len(values) == 2 else (0, 0)
    if low >= high or (kind == "log_uniform" and low <= 0):
        needed = "whole numbers" if whole else "numbers"
        above = " above 0" if kind == "log_uniform" else ""
        raise InputError(
            f"{where}.{kind}: {shown(distribution[kind])} is not allowed; write two {needed}{above}, the lower "
            "one first"
        )
    return kind, numbers


def _drawn(kind: str, values: list[Any], whole: bool, share: float) -> Any:
    """The value below which a distribution has this share, from 0 to below 1. Both bounds may be drawn."""
    if kind == "choice":
        return values[int(share * len(values))]
    low, high = values[0], values[1] + whole
    value = low * (high / low) ** share if kind == "log_uniform" else low + share * (high - low)
    if whole:
        return min(math.floor(value), values[1])
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)
