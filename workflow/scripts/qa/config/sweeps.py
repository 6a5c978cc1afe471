"""Sweeps: a run that lists values for a setting stands for one run for each combination, with a name of its own.

    lr:                                         lr.overlap-64.learning_rate-2e-5
      windows: {overlap: [64, 128]}       ->    lr.overlap-64.learning_rate-3e-5, and so on with 128
      training: {learning_rate: [2e-5, 3e-5]}

Snakemake's Paramspace does not fit: it needs one table with the same columns for all runs, and wildcards of values.
Here each run has its own settings, checked and merged with defaults, under one wildcard.
"""

import copy
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from qa.common.errors import InputError
from qa.config.fields import from_text

MOST = 1000  # combinations of one run: more is most likely a mistake, and clusters queue no more
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")

Sweeps = dict[str, dict[str, dict[str, str]]]  # run as written -> its combinations -> label -> value as text


def expanded(config: dict[str, Any], settable: Sequence[str], longest: int) -> tuple[dict[str, Any], Sweeps]:
    """Replace each run that lists values for a setting by one run for each combination, and return the sweeps too.

    `settable` are the paths within a run (`training.learning_rate`) of settings that take one value, in the order in
    which names mention them. `longest` is the length of a run's name, in characters. An ensemble that names a sweep
    averages all its combinations. Everything else stays as it is, right or wrong. Raises InputError for lists under
    `defaults`, empty lists, values that are listed twice, too many combinations, and names that are too long or taken.
    """
    for path in settable:
        if isinstance(_at(config.get("defaults"), path), list):
            raise InputError(
                f"config: defaults.{path}: a list of values is a sweep, and belongs in a run: runs.NAME.{path}"
            )
    written = config.get("runs")
    if not isinstance(written, dict):
        return config, {}
    labels, sweeps = labels_of(settable), Sweeps()
    runs: dict[str, Any] = {}
    for name, run in written.items():
        lists = {path: values for path in settable if isinstance(values := _at(run, path), list)}
        combinations = {name: run}
        if lists:
            _check_lists(name, lists)
            found = list(_combinations(name, run, lists, labels))
            combinations = {combination: settings for combination, settings, _ in found}
            sweeps[name] = {combination: values for combination, _, values in found}
        for combination in combinations:
            if combination in runs:
                raise InputError(
                    f"config: runs.{name}: another run has the name `{combination}` already; rename one of them"
                )
            if lists and len(combination) > longest:
                raise InputError(
                    f"config: runs.{name}: its combination `{combination}` has a name of more than {longest} "
                    "characters; give the run a shorter name, or list values for fewer settings at once"
                )
        runs |= combinations
    return {**config, "runs": {name: _with_combinations(run, sweeps) for name, run in runs.items()}}, sweeps


def _with_combinations(run: Any, sweeps: Sweeps) -> Any:
    """An ensemble with the combinations of each sweep (`sweep/seed-1`) in its place; other runs as they are."""
    names = run.get("ensemble") if isinstance(run, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        return run
    parts = [name.partition("/") for name in names]
    members = [member + slash + variant for name, slash, variant in parts for member in sweeps.get(name, [name])]
    return {**run, "ensemble": list(dict.fromkeys(members))}


def _check_lists(name: str, lists: dict[str, list[Any]]) -> None:
    for path, values in lists.items():
        if not values:
            raise InputError(f"config: runs.{name}.{path}: the list is empty; list values, or leave it out")
        known: set[str] = set()
        for value in values:
            text = as_text(from_text(value))  # 2e-5, which YAML reads as text, and 0.00002 are the same
            if text in known:
                raise InputError(f"config: runs.{name}.{path}: {as_text(value)} is listed twice")
            known.add(text)
    count = math.prod(map(len, lists.values()))
    if count > MOST:
        raise InputError(f"config: runs.{name}: {count:,} combinations of its lists; at most {MOST:,} are allowed")


def _combinations(
    name: str, run: dict[str, Any], lists: dict[str, list[Any]], labels: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """For each combination its name, the run with its values, and these values as text by label."""
    for chosen in itertools.product(*lists.values()):
        combination = copy.deepcopy(run)
        for path, value in zip(lists, chosen, strict=True):
            *group, key = path.split(".")
            (combination[group[0]] if group else combination)[key] = value
        values = {labels[path]: as_text(value) for path, value in zip(lists, chosen, strict=True)}
        yield ".".join([name, *(f"{label}-{text}" for label, text in values.items())]), combination, values


def _at(run: Any, path: str) -> Any:
    for key in path.split("."):
        run = run.get(key) if isinstance(run, dict) else None
    return run


def labels_of(settable: Sequence[str]) -> dict[str, str]:
    """A short name for each setting: its last key, or its whole path if an earlier setting has that key.

    The settings of `training` come first: its key is `batch_size`, and the other one `prediction.batch_size`.
    """
    labels: dict[str, str] = {}
    for path in sorted(settable, key=lambda path: not path.startswith("training.")):
        short = path.split(".")[-1]
        labels[path] = path if short in labels.values() else short
    return labels


def as_text(value: Any) -> str:
    """A value as names and tables have it: `2e-5`, `0.1`, `16`, `null`, `bf16`. Text loses forbidden characters."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, dict):  # a model that is another run's
        return "-".join(map(as_text, value.values()))
    if isinstance(value, float):
        digits, _, exponent = repr(value).partition("e")
        return digits.removesuffix(".0") + (f"e{int(exponent)}" if exponent else "")
    return NOT_IN_NAMES.sub("", str(value))


def as_written(message: str, sweeps: Sweeps) -> str:
    """An error message with runs under the names of the configuration, and the combination at the end of the line.

    Of lines that say the same of several combinations, the first one stays.
    """
    origins = {name: run for run, names in sweeps.items() for name in names}
    if not origins:
        return message
    longest_first = sorted(origins, key=len, reverse=True)
    expanded_run = re.compile(rf"\bruns\.({'|'.join(map(re.escape, longest_first))})(?=[.:])")
    lines: dict[str, str] = {}
    for line in message.split("\n"):
        found = expanded_run.search(line)
        original = expanded_run.sub(lambda match: f"runs.{origins[match[1]]}", line)
        lines.setdefault(original, f" (in its combination `{found[1]}`)" if found else "")
    return "\n".join(f"{line}{combination}" for line, combination in lines.items())


def values_of_runs(sweeps: Sweeps) -> dict[str, dict[str, str]]:
    """The listed values of each run of a sweep, as text by label."""
    return {name: values for names in sweeps.values() for name, values in names.items()}


def trainings_message(sweeps: Sweeps, trainings: Sequence[tuple[str, str]]) -> str:
    """How many trainings, (run, variant) each, the configuration asks for. Snakemake says how many it will run."""
    seeds: dict[str, int] = {}
    for run, _ in trainings:
        seeds[run] = seeds.get(run, 0) + 1
    if not seeds:
        return "No trainings: no run trains a model"
    least, most = min(seeds.values()), max(seeds.values())
    seeds_of_a_run = f"{least} to {most} seeds" if least < most else _counted(least, "seed")
    swept = {run: sum(name in seeds for name in names) for run, names in sweeps.items()}
    listed = ", ".join(f"{run} x {count}" for run, count in swept.items() if count)
    text = f"{_counted(len(trainings), 'training')}: {_counted(len(seeds), 'run')} x {seeds_of_a_run}"
    return text + (f" (sweep: {listed})" if listed else "")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
