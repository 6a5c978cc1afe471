"""The configuration: read, checked, sweeps expanded, each run merged with the defaults."""

import copy
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from qa.common.errors import InputError, first_line
from qa.config import checks, comparisons, lineage, messages, strict_yaml, sweeps
from qa.config.fields import LONGEST_NAME, Section, listed
from qa.config.schema import AS_GIVEN, Configuration, ConfigurationFile, Ensemble, External, Run, Settings, kind_of_run
from qa.config.sections import AsGiven, Dataset, PretrainedModel

NOT_SWEPT = ("validate_on", "draws", "draw_seed")  # that take one value
OF_MODELS = (".json", ".txt", ".model", ".codes", ".safetensors", ".md")  # endings of the files that `download` takes


def check(files: Iterable[str | Path]) -> Configuration:
    """Read and check configuration files. As in Snakemake, each file overrides single keys of the files before it.

    Raises InputError with a line for each mistake.
    """
    files = [Path(file) for file in files]
    config: dict[str, Any] = {}
    for file in files:
        config = _updated(config, strict_yaml.read(file))
    return resolve(config, files)


def _updated(config: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    both = {key: (config[key], more[key]) for key in config.keys() & more.keys()}
    merged = {key: _updated(*pair) for key, pair in both.items() if all(isinstance(value, dict) for value in pair)}
    return {**config, **more, **merged}


def resolve(config: dict[str, Any], files: Iterable[str | Path] = ()) -> Configuration:
    """Check a configuration as Snakemake reads it from `files`. The dictionary itself stays as it is.

    Raises InputError with a line for each mistake: key path, value, what is allowed.
    """
    strict_yaml.check_files(files)
    strict_yaml.check_plain(config)
    expanded, swept = sweeps.expanded(copy.deepcopy(config), settable(), LONGEST_NAME)
    try:
        return _checked(expanded, swept)
    except InputError as error:
        raise InputError(sweeps.as_written(str(error), swept)) from None


def _checked(config: dict[str, Any], swept: sweeps.Sweeps) -> Configuration:
    try:
        file = ConfigurationFile.model_validate(_with_defaults(config))
    except ValidationError as error:
        raise InputError("\n".join(dict.fromkeys(messages.lines(error)))) from None
    runs, ensembles, external = (
        {name: run for name, run in file.runs.items() if isinstance(run, kind)} for kind in (Run, Ensemble, External)
    )
    resolved = Configuration(
        models=file.models,
        datasets=file.datasets,
        decodings=({AS_GIVEN: AsGiven()} if external else {}) | file.decodings,
        runs=runs,
        ensembles=ensembles,
        external=external,
        compare_to=file.compare_to or (None if file.compare else comparisons.default_reference(file.runs)),
        compare=file.compare,
        sweeps=swept,
    )
    checks.check(config["runs"], resolved)
    for name, run in resolved.runs.items():
        run._pretrained = lineage.pretrained(resolved, name)
    return resolved


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with `defaults` in each run that trains, unless they are wrong themselves."""
    defaults, runs = config.get("defaults"), config.get("runs")
    try:
        Settings.model_validate(defaults)
    except ValidationError:
        return config
    if not isinstance(runs, dict) or not isinstance(defaults, dict):
        return config
    trained = {name: run for name, run in runs.items() if isinstance(run, dict) and kind_of_run(run) == "(run)"}
    merged = {name: _updated(defaults, run) for name, run in trained.items()}
    return {**config, "runs": {**runs, **merged}}


@cache
def settable() -> dict[str, bool]:
    """Paths of a run's settings that take one value (`model`, `training.learning_rate`), so that a list is a sweep.

    Each comes with whether it takes whole numbers only.
    """
    single, inner = {}, {}
    for name, field in Run.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            keys = field.annotation.model_fields.items() if name != "publish" else ()
            inner |= {f"{name}.{key}": below.annotation for key, below in keys if _takes_one(below.annotation)}
        elif name not in NOT_SWEPT and _takes_one(field.annotation):
            single[name] = field.annotation
    return {path: _is_whole(annotation) for path, annotation in {**single, **inner}.items()}


def _takes_one(annotation: Any) -> bool:
    """Whether a type has neither lists nor mappings."""
    return get_origin(annotation) not in (list, dict) and all(map(_takes_one, get_args(annotation)))


def _is_whole(annotation: Any) -> bool:
    return annotation is int or any(map(_is_whole, get_args(annotation)))


def as_yaml(part: dict[str, Any]) -> str:
    """What `model_dump` gives of a run, or of another part of a configuration, as YAML."""
    return yaml.safe_dump(part, sort_keys=False, allow_unicode=True)


def own_files(config: Configuration) -> dict[tuple[str, str], list[str]]:
    """The user's own files by kind and name: of `models`, of `datasets`, and of `answers` by run and split.

    Raises as `local_files`.
    """
    found = {
        (kind, name): local_files(source, f"{kind}.{name}")
        for kind in ("models", "datasets")
        for name, source in getattr(config, kind).items()
    }
    for name, run in config.external.items():
        for split, file in run.answers.items():
            path = _own(file, where := f"runs.{name}.answers.{split}")
            if not path.is_file():
                raise InputError(f"config: {where}: no such file: {path}")
            found["answers", f"{name}/{split}"] = [str(path)]
    return found


def local_files(source: PretrainedModel | Dataset, where: str) -> list[str]:
    """The user's own files behind a model or dataset; [] for one from the Hub or a package.

    Raises InputError if one is missing, or has braces in its path. `where` is the key path of the model or dataset.
    """
    if isinstance(source, PretrainedModel):
        if source.path is None:
            return []
        folder = _own(source.path, f"{where}.path")
        if not folder.is_dir():
            raise InputError(f"config: {where}.path: no such folder: {source.path}")
        files = [_own(str(path), f"{where}.path") for path in folder.iterdir() if path.is_file()]
        return sorted(str(path) for path in files if path.suffix in OF_MODELS)
    found: dict[str, None] = {}
    for split, files in source.splits.items() if source.repo is None else ():
        for file in listed(files):
            path = _own(file, f"{where}.splits.{split}")
            if not path.is_file():
                raise InputError(f"config: {where}.splits.{split}: no such file: {path}")
            found[str(path)] = None
    return list(found)


def _own(path: str, where: str) -> Path:
    if re.search("{.*}", path):
        raise InputError(
            f"config: {where}: {path}: Snakemake takes {{…}} in a path for a wildcard; rename the file or folder"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~nobody
        raise InputError(f"config: {where}: {path}: {first_line(error)}") from None
