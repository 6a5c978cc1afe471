"""Mistakes in a configuration as lines for people: key path, value, what is allowed, and "did you mean"."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from qa.common.text import did_you_mean
from qa.config import fields

LONGEST = 60  # characters of a value that a line shows
PATTERNS = {
    fields.NAME: "a name has letters, digits, `.`, `_` and `-`, and starts with a letter or digit",
    fields.SPLIT: "a split is written `dataset/split`",
    fields.OWNED_NAME: "a repository is written `owner/name`",
    fields.COMMIT: "a commit is 40 hexadecimal digits (a branch or tag can move)",
    fields.HUB_NAME: "a repository is written `owner/name`",
    fields.LICENSE: "a licence is written as on the Hub, such as `apache-2.0`",
}
LIMITS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
}
KINDS = {
    "int_type": "is no whole number",
    "float_type": "is no number",
    "bool_type": "is not true or false",
    "finite_number": "is no finite number",
    "string_type": "is no text; put it in quotes",
    "string_too_short": "is empty",
    "string_too_long": f"is longer than {fields.LONGEST_NAME} characters",
}
MINIMAL = """\
A minimal configuration:
  models: {roberta-base: {repo: FacebookAI/roberta-base, revision: e2da8e2f811d1448a5b465c236feacd80ffbac7b}}
  datasets: {mine: {splits: {train: data/train.json, validation: data/validation.json}}}
  decodings: {n_best: {method: n_best}}
  runs: {first: {model: roberta-base, train_on: mine/train, evaluate_on: [mine/validation], decodings: [n_best]}}"""


def lines(error: ValidationError) -> list[str]:
    """A line for each mistake, and a minimal configuration where a whole part is missing or empty."""
    faults = error.errors(include_url=False)
    missing_part = any(
        len(fault["loc"]) < 2 and fault["type"] in ("missing", "dict_type", "too_short") for fault in faults
    )
    return [f"config: {_line(fault)}" for fault in faults] + ([MINIMAL] if missing_part else [])


def near(name: str, known: Iterable[str]) -> str:
    """What else an unknown name may mean: the closest known one, or all of them."""
    known = list(known)
    return did_you_mean(name, known).removeprefix("; ") or _any_of(known)


def shown(value: Any) -> str:
    """A value as Python writes it, cut to one short piece of a line."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _line(fault: Any) -> str:
    # names in parentheses are no keys: they say which kind of run, decoding or file was looked for
    path = [str(key) for key in fault["loc"] if not re.fullmatch(r"\([a-z_]+\)", str(key))]
    kind, key = fault["type"], path[-1] if path else ""
    if kind in ("missing", "extra_forbidden"):
        path = path[:-1]
    elif key == "[key]":
        path = path[:-2]
    return f"{'.'.join(path) or 'top level'}: {_meaning(kind, key, fault['input'], fault.get('ctx', {}), fault['msg'])}"


def _meaning(kind: str, key: str, value: Any, context: dict[str, Any], message: str) -> str:
    if kind == "extra_forbidden":
        return f"unknown key `{key}`; {near(key, value)}"
    if kind == "missing":
        return f"`{key}` is missing"
    if kind in KINDS:
        return f"{shown(value)} {KINDS[kind]}"
    if kind in LIMITS:
        return f"{shown(value)} is not allowed; it must be {LIMITS[kind].format(**context)}"
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} is not allowed; {PATTERNS[context['pattern']]}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        return f"{shown(value)} is not allowed; {near(value, allowed) if isinstance(value, str) else _any_of(allowed)}"
    if kind in fields.WITHOUT_VALUE:
        return message
    return "; ".join(_of_a_collection(kind, value, context)) or f"{shown(value)} is not allowed; {message}"


def _of_a_collection(kind: str, value: Any, context: dict[str, Any]) -> Iterator[str]:
    if kind == "list_type":
        yield f"{shown(value)} is no list"
        if isinstance(value, str | int | float):
            yield f"write [{value}]"
    elif kind in ("dict_type", "model_type"):
        yield "nothing is here" if value is None else f"{shown(value)} is no mapping"
        yield "write keys with values below it, or leave it out"
    elif kind == "too_short" and context["min_length"] == 1:
        yield f"{shown(value)} is empty"
        yield "name at least one"
    elif kind in ("too_short", "too_long"):
        yield f"{shown(value)} is not allowed"
        yield "write two, [first, second]"


def _any_of(allowed: list[str]) -> str:
    return f"allowed: {', '.join(allowed)}"
