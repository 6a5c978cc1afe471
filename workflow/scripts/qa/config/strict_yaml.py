"""The configuration as it is written: plain values only, no key twice, nothing that YAML would run or multiply."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from qa.common.errors import InputError
from qa.common.files import STRICT_JSON, read_text
from qa.config.fields import GREATEST

DEEPEST = 20  # levels; the configuration's own are seven
MOST = 1_000_000  # values; aliases of aliases could be more than any memory holds
UNSEEN = "characters that cannot be seen, such as a line break"
LONGEST = 60  # characters of a value that a message shows


def read(file: Path) -> dict[str, Any]:
    """Read a configuration file; {} if it is empty. Raises InputError if it is missing, no YAML or no mapping."""
    if not file.is_file():
        raise InputError(f"config: {file}: no such file")
    config = _parsed(file)
    if not isinstance(config, dict | None):
        raise InputError(f"config: {file}: has no keys at the top level")
    return config or {}


def check_plain(config: Any) -> None:
    """Refuse keys that are no text, numbers that are not finite or absurd, unseen characters and endless nesting.

    Raises InputError that names the key path.
    """
    waiting: list[tuple[str, Any, int]] = [("", config, 0)]
    seen = 0
    while waiting:
        where, value, depth = waiting.pop()
        seen += 1
        place = f"config: {where or 'top level'}"
        if depth > DEEPEST:
            raise InputError(f"{place[:LONGEST]}…: nested more than {DEEPEST} levels deep; does an alias name itself?")
        if seen > MOST:
            raise InputError(f"{place}: more than {MOST:,} values in all; do aliases repeat one another?")
        if isinstance(value, dict):
            for key, inner in reversed(value.items()):
                if not isinstance(key, str):
                    raise InputError(f"{place}: the key {str(key)[:LONGEST]} is no text; put it in quotes")
                if not key.isprintable():
                    raise InputError(f"{place}: the key {key[:LONGEST]!r} has {UNSEEN}")
                waiting.append((f"{where}.{key}" if where else key, inner, depth + 1))
        elif isinstance(value, list):
            waiting += [(f"{where}.{number}", inner, depth + 1) for number, inner in reversed([*enumerate(value)])]
        else:
            _check_value(value, place)


def _check_value(value: Any, place: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place}: {value} is no finite number")
    if isinstance(value, int) and abs(value) > GREATEST:
        raise InputError(f"{place}: numbers beyond {GREATEST:,} have no use here")
    if isinstance(value, str) and not value.isprintable():
        raise InputError(f"{place}: {value[:LONGEST]!r} has {UNSEEN}")
    if not isinstance(value, str | float | int | None):
        raise InputError(f"{place}: {str(value)[:LONGEST]!r} is a {type(value).__name__}; put it in quotes")


def check_files(paths: Iterable[str | Path]) -> None:
    """Refuse configuration files with a key twice. YAML and JSON keep the last one without a word.

    Refused too is what only Snakemake's reader of YAML takes: tags that name Python objects, and expressions that are
    run (`__use_yte__`). Raises InputError that names file, line and key, in a line for each key of a file that is there
    twice. Files that do not exist are not looked at.
    """
    for path in filter(Path.is_file, map(Path, paths)):
        _parsed(path)


def _parsed(path: Path) -> Any:
    """A file's content, read as JSON or else as YAML, as Snakemake does. Raises InputError as `check_files`."""
    _check_place(path)
    text = read_text(path, f"config: {path}")
    try:
        return STRICT_JSON.decode(text)
    except ValueError:  # no JSON, or JSON with a key twice: as YAML it has lines
        pass
    try:
        loader = _Loader(text)
        content = loader.get_single_data()
    except InputError as error:
        raise InputError(f"config: {path}, {error}") from None
    except Exception as error:  # of many classes: a date such as 2026-13-01 is a ValueError
        raise InputError(f"config: {path}: no YAML ({' '.join(str(error).split())})") from None
    if loader.twice:
        raise InputError("\n".join(f"config: {path}, line {line}: {fault}" for line, fault in sorted(loader.twice)))
    return content


def _check_place(path: Path) -> None:
    """Refuse results as configuration files: Snakemake reads every word after `--configfile` as one."""
    if path.absolute().is_relative_to(Path("results").absolute()):
        raise InputError(
            f"config: {path} is read as a configuration file, because Snakemake reads everything after --configfile as "
            "one; put targets before --configfile"
        )


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # the first, of libyaml, is ten times as fast
    """Plain values only. Raises InputError that begins with the line. `twice` collects keys that are there twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[tuple[int, str]] = []

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the pairs of `<<` before the mapping's own. Its own keys are compared before, and only once."""
        if not hasattr(node, "flat"):
            node.flat = True
            self.twice += _keys_twice(node)
            super().flatten_mapping(node)

    def refuse(self, node: yaml.Node) -> None:
        """Raise InputError for a tag that is none of plain YAML."""
        raise InputError(f"line {_line(node)}: the tag {node.tag} is not allowed; write plain values")


_Loader.add_constructor(None, _Loader.refuse)


def _keys_twice(node: yaml.MappingNode) -> Iterator[tuple[int, str]]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            continue
        if key.value == "__use_yte__":
            raise InputError(f"line {_line(key)}: `__use_yte__` would run expressions; write plain values")
        if key.value in first:
            where = f"first in line {first[key.value]}"
            yield _line(key), f"the key `{key.value}` is there twice, {where}; only the last would count"
        first.setdefault(key.value, _line(key))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
