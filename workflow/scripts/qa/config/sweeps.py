"""Sweeps: a run that lists or draws values for settings stands for one run for each combination, with its own name.

    lr:                                         lr.overlap-64.learning_rate-2e-5
      windows: {overlap: [64, 128]}       ->    lr.overlap-64.learning_rate-3e-5, and so on with 128
      training: {learning_rate: [2e-5, 3e-5]}

    search:                                     search.draw-1
      draws: 12                           ->    search.draw-2, and so on to 12
      training: {learning_rate: {log_uniform: [1e-5, 1e-4]}}

Snakemake's Paramspace does not fit: it needs one table with the same columns for all runs, and wildcards of values.
Here each run has its own settings, checked and merged with defaults, under one wildcard.
"""

import copy
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from qa.common.errors import InputError
from qa.common.text import counted
from qa.config import draws
from qa.config.fields import from_text

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")

Sweeps = dict[str, dict[str, dict[str, str]]]  # run as written -> its combinations -> label -> value as text
Point = tuple[str, dict[str, Any]]  # what a name says of it, value by path


def expanded(config: dict[str, Any], settable: dict[str, bool], longest: int) -> tuple[dict[str, Any], Sweeps]:
    """Replace each run that lists or draws values by one run for each combination, and return the sweeps too.

    `settable` are the paths within a run (`training.learning_rate`) of settings that take one value, in the order in
    which names mention them, each with whether its numbers are whole. `longest` is the length of a run's name, in
    characters. An ensemble that names a sweep averages all its combinations. Everything else stays as it is, right or
    wrong. Raises InputError for lists and distributions under `defaults`, empty lists, values that are listed twice,
    wrong draws (`draws.points`), too many combinations, and names that are too long or taken.
    """
    for path in settable:
        value = _at(config.get("defaults"), path)
        if isinstance(value, list) or draws.is_distribution(path, value):
            values = "a list of values" if isinstance(value, list) else "a distribution"
            raise InputError(f"config: defaults.{path}: {values} is a sweep, and belongs in a run: runs.NAME.{path}")
    written = config.get("runs")
    if not isinstance(written, dict):
        return config, {}
    labels, sweeps = labels_of(settable), Sweeps()
    runs: dict[str, Any] = {}
    for name, run in written.items():
        combinations = {name: run}
        if dimensions := _dimensions(name, run, settable, labels):
            found = list(_combinations(name, run, dimensions, labels))
            combinations = {combination: settings for combination, settings, _ in found}
            sweeps[name] = {combination: values for combination, _, values in found}
        for combination in combinations:
            if combination in runs:
                raise InputError(
                    f"config: runs.{name}: another run has the name `{combination}` already; rename one of them"
                )
            if dimensions and len(combination) > longest:
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


def _dimensions(name: str, run: Any, settable: dict[str, bool], labels: dict[str, str]) -> list[list[Point]]:
    """The points of each list of a run, and those of its draws; the run stands for the product of all."""
    where, found = f"config: runs.{name}", {path: _at(run, path) for path in settable}
    lists = {path: value for path, value in found.items() if isinstance(value, list)}
    drawn = {path: value for path, value in found.items() if draws.is_distribution(path, value)}
    choices = {f"{path}.choice": value["choice"] for path, value in drawn.items() if "choice" in value}
    for path, values in {**lists, **choices}.items():
        if isinstance(values, list):
            _check_list(f"{where}.{path}", values)
    dimensions = [[(f"{labels[path]}-{as_text(value)}", {path: value}) for value in lists[path]] for path in lists]
    if drawn:
        numbered = enumerate(draws.points(where, drawn, settable, run), 1)
        dimensions.append([(f"draw-{number}", point) for number, point in numbered])
    elif isinstance(run, dict) and run.get("draws") is not None:
        raise InputError(
            f"{where}.draws: no setting has a distribution to draw from, such as "
            "`learning_rate: {log_uniform: [1e-5, 1e-4]}`"
        )
    count = math.prod(map(len, dimensions))
    if count > draws.MOST:
        raise InputError(f"{where}: {count:,} combinations of its lists; at most {draws.MOST:,} are allowed")
    return dimensions


def _check_list(where: str, values: list[Any]) -> None:
    if not values:
        raise InputError(f"{where}: the list is empty; list values, or leave it out")
    known: set[str] = set()
    for value in values:
        text = as_text(from_text(value))  # 2e-5, which YAML reads as text, and 0.00002 are the same
        if text in known:
            raise InputError(f"{where}: {as_text(value)} is listed twice")
        known.add(text)


def _combinations(
    name: str, run: dict[str, Any], dimensions: list[list[Point]], labels: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """For each combination its name, the run with its values, and these values as text by label."""
    for chosen in itertools.product(*dimensions):
        combination = copy.deepcopy(run)
        values = {path: value for _, point in chosen for path, value in point.items()}
        for path, value in values.items():
            *group, key = path.split(".")
            (combination[group[0]] if group else combination)[key] = value
        texts = {labels[path]: as_text(value) for path, value in values.items()}
        yield ".".join([name, *(part for part, _ in chosen)]), combination, texts


def _at(run: Any, path: str) -> Any:
    for key in path.split("."):
        run = run.get(key) if isinstance(run, dict) else None
    return run


def labels_of(settable: Iterable[str]) -> dict[str, str]:
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


def trainings_message(sweeps: Sweeps, trainings: Sequence[tuple[str, str]]) -> str:
    """How many trainings, (run, variant) each, the configuration asks for. Snakemake says how many it will run."""
    seeds: dict[str, int] = {}
    for run, _ in trainings:
        seeds[run] = seeds.get(run, 0) + 1
    if not seeds:
        return "No trainings: no run trains a model"
    least, most = min(seeds.values()), max(seeds.values())
    seeds_of_a_run = f"{least} to {most} seeds" if least < most else counted(least, "seed")
    swept = {run: sum(name in seeds for name in names) for run, names in sweeps.items()}
    listed = ", ".join(f"{run} x {count}" for run, count in swept.items() if count)
    text = f"{counted(len(trainings), 'training')}: {counted(len(seeds), 'run')} x {seeds_of_a_run}"
    return text + (f" (sweep: {listed})" if listed else "")
