"""Sweeps: a run that lists values for a setting stands for one run a combination, each under a name of its own.

    lr:                                         lr.overlap-64.learning_rate-2e-5
      windows: {overlap: [64, 128]}       ->    lr.overlap-64.learning_rate-3e-5, and so on with 128
      training: {learning_rate: [2e-5, 3e-5]}

Snakemake's Paramspace does not fit: it wants one table with the same columns for all runs, and wildcards of values,
where each run here has its own settings, checked by the schema and merged with defaults, under one wildcard.
"""

import copy
import itertools
import re
from collections.abc import Sequence
from typing import Any

from qa.common.errors import InputError

MOST = 1000  # combinations of one run: more is most likely a mistake, and clusters queue no more
SCIENTIFIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")  # text for YAML, a number for people
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")

Sweeps = dict[str, dict[str, dict[str, str]]]


def expanded(config: dict[str, Any], settable: Sequence[str], longest: int) -> tuple[dict[str, Any], Sweeps]:
    """Replace each run that lists values for a setting by one run a combination.

    `settable` are the paths within a run (`training.learning_rate`) of the settings that take one value, in the order
    in which names mention them; `longest` is the length of a run's name, in characters. Everything else stays as it is,
    wrong or not. Returned with the new configuration are the sweeps: for each run as written the names it expands to,
    with the values that each has, as text by the settings' labels. An ensemble that names a sweep averages all of its
    combinations. Raises InputError for lists under `defaults`, empty lists, values that are listed twice, too many
    combinations, and names that are too long or taken.
    """
    for path in settable:
        if isinstance(_at(config.get("defaults"), path), list):
            raise InputError(
                f"config: defaults.{path}: a list of values is a sweep, which stands in a run: runs.NAME.{path}"
            )
    written = config.get("runs")
    if not isinstance(written, dict):
        return config, {}
    labels, sweeps = labels_of(settable), Sweeps()
    runs: dict[str, Any] = {}
    for name, run in written.items():
        lists = {path: values for path in settable if isinstance(values := _at(run, path), list)}
        if not lists or not isinstance(name, str):
            new = {name: (run, {})}
        else:
            new = _combinations(name, run, lists, labels)
            sweeps[name] = {each: values for each, (_, values) in new.items()}
        if taken := [each for each in new if each in runs]:
            raise InputError(f"config: runs.{name}: another run has the name `{taken[0]}` already; rename one of them")
        if lists and (long := [each for each in new if len(each) > longest]):
            raise InputError(
                f"config: runs.{name}: its combination `{long[0]}` has a name of more than {longest} characters; "
                "give the run a shorter name, or list values for fewer settings at once"
            )
        runs |= {each: settings for each, (settings, _) in new.items()}
    return {**config, "runs": {name: _of_combinations(run, sweeps) for name, run in runs.items()}}, sweeps


def _of_combinations(run: Any, sweeps: Sweeps) -> Any:
    """An ensemble with the combinations in place of each sweep (`sweep/seed-1`) that it names; others as they are."""
    named = run.get("ensemble") if isinstance(run, dict) else None
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        return run
    split = [each.partition("/") for each in named]
    new = [each + slash + variant for name, slash, variant in split for each in sweeps.get(name, [name])]
    return {**run, "ensemble": list(dict.fromkeys(new)) if len(set(named)) == len(named) else named}


def _combinations(
    name: str, run: dict[str, Any], lists: dict[str, list[Any]], labels: dict[str, str]
) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
    """For each combination its name, the run with its values, and these as text by label."""
    count = 1
    for path, values in lists.items():
        if not values:
            raise InputError(f"config: runs.{name}.{path}: the list is empty; list values, or leave it out")
        known: set[str] = set()
        for value in values:
            if (same := _number_as_number(value)) in known:
                raise InputError(f"config: runs.{name}.{path}: {as_text(value)} is listed twice")
            known.add(same)
        count *= len(values)
    if count > MOST:
        raise InputError(f"config: runs.{name}: {count:,} combinations of its lists; at most {MOST:,} are allowed")
    found = {}
    for chosen in itertools.product(*lists.values()):
        values = {labels[path]: as_text(value) for path, value in zip(lists, chosen, strict=True)}
        one = copy.deepcopy(run)
        for path, value in zip(lists, chosen, strict=True):
            *groups, key = path.split(".")
            (one[groups[0]] if groups else one)[key] = value
        found[".".join([name, *(f"{label}-{text}" for label, text in values.items())])] = (one, values)
    return found


def _at(run: Any, path: str) -> Any:
    for key in path.split("."):
        run = run.get(key) if isinstance(run, dict) else None
    return run


def labels_of(settable: Sequence[str]) -> dict[str, str]:
    """A short name for each setting: its last key, or its whole path where `training` or one before it has that key.

    Of the two keys `batch_size`, say, training's is `batch_size` and the other `prediction.batch_size`.
    """
    labels: dict[str, str] = {}
    for path in sorted(settable, key=lambda path: not path.startswith("training.")):
        short = path.split(".")[-1]
        labels[path] = path if short in labels.values() else short
    return labels


def as_text(value: Any) -> str:
    """A value as it stands in names and tables: `2e-5`, `0.1`, `16`, `null`, `bf16`; text as written, where allowed."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, float):
        digits, _, exponent = repr(value).partition("e")
        return digits.removesuffix(".0") + (f"e{int(exponent)}" if exponent else "")
    return NOT_IN_NAMES.sub("", str(value))


def _number_as_number(value: Any) -> str:
    """The same text for values that mean the same: 2e-5, which YAML reads as text, and 0.00002."""
    return as_text(float(value) if isinstance(value, str) and SCIENTIFIC.fullmatch(value) else value)


def as_written(message: str, sweeps: Sweeps) -> str:
    """An error's message with runs under the names that the configuration has, and the combination at the end.

    Of lines that say the same of several combinations the first is kept.
    """
    origins = {name: run for run, names in sweeps.items() for name in names}
    if not origins:
        return message
    longest_first = sorted(origins, key=len, reverse=True)
    expanded_run = re.compile(rf"\bruns\.({'|'.join(map(re.escape, longest_first))})(?=[.:])")
    lines: dict[str, str] = {}
    for line in message.split("\n"):
        found = expanded_run.search(line)
        told = expanded_run.sub(lambda match: f"runs.{origins[match[1]]}", line)
        lines.setdefault(told, f" (in its combination `{found[1]}`)" if found else "")
    return "\n".join(f"{line}{combination}" for line, combination in lines.items())


def values_of_runs(sweeps: Sweeps) -> dict[str, dict[str, str]]:
    """The listed values that each run of a sweep has, as text by label."""
    return {name: values for names in sweeps.values() for name, values in names.items()}


def told(sweeps: Sweeps, trainings: Sequence[tuple[str, str]], made: int) -> str:
    """How many trainings, (run, variant) each, the configuration asks for, of which so many are made already."""
    seeds: dict[str, int] = {}
    for run, _ in trainings:
        seeds[run] = seeds.get(run, 0) + 1
    if not seeds:
        return "No trainings: every run takes a published model"
    least, most = min(seeds.values()), max(seeds.values())
    each = f"{least} to {most} seeds" if least < most else _counted(least, "seed")
    swept = {run: sum(name in seeds for name in names) for run, names in sweeps.items()}
    listed = ", ".join(f"{run} x {count}" for run, count in swept.items() if count)
    text = f"{_counted(len(trainings), 'training')}: {_counted(len(seeds), 'run')} x {each}"
    return text + (f" (sweep: {listed})" if listed else "") + (f", {made} already made" if made else "")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
