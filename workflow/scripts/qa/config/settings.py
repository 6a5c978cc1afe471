"""The configuration: checked against the schema, merged for each run, and cut into what each stage reads.

A stage's part is exactly what it reads, since Snakemake reruns a job when its params change.
"""

import copy
import difflib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from qa.common.errors import InputError, first_line
from qa.common.files import digest_of_json
from qa.config import comparisons, lineage, strict_yaml, sweeps
from qa.config.lineage import ENSEMBLE, PUBLISHED, variants
from qa.config.sweeps import SCIENTIFIC

SCHEMA_FILE = Path(__file__).parents[3] / "schemas" / "config.schema.yaml"
GROUPS = ("hold_out", "distillation", "windows", "precision", "padding", "training", "prediction", "checkpoints")
GROUPS += ("deterministic", "report_to")
# what is beside runs' folders in results/, datasets' in a variant's folder, decodings' in a split's
RESERVED_RUNS = ("questions", "windows", "targets", "usage", "figures", "report.html")
RESERVED_RUNS += ("summary.csv", "comparison.csv", "resource_usage.csv")
RESERVED_DATASETS = ("model", "calibration", "package", "training.csv", "manifest.json", "publish_plan.json")
RESERVED_DATASETS += ("published.json",)
RESERVED_DECODINGS = ("spans.parquet",)
LEAST_ROOM = 8  # tokens of a row left for special tokens and a step forward, beside question and overlap
SPEED_ONLY = ("gpus", "nodes", "compile")  # settings of training that change no more than rounding and dropout masks
OF_TRAINING = ("training", "checkpoints", "validate_on", "hold_out", "distillation", "report_to", "publish")  # not its
OF_CALIBRATION = ("calibrate_for", "unanswerable_prior")  # how a decoding is calibrated
NOT_OF_SOURCE = ("overrides", "license", "misaligned")  # keys of models and datasets that no download reads
ONE_SOURCE = "needs one source: `repo` with `revision`, or `path`, or `package` with `directory`"


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    return yaml.safe_load(SCHEMA_FILE.read_text(encoding="utf-8"))


def resolve(config: dict[str, Any], files: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Check a configuration and return it with every default filled in and every run merged.

    The result has `models`, `datasets`, `decodings`, `runs` and `ensembles`, the runs of that kind; a run holds all its
    settings, the schema's defaults overridden by `defaults`, and those by the run's own; `compare_to` and `compare` are
    those of comparisons.comparisons. A run that lists values for a setting is one a combination, and `sweeps` says
    which (see sweeps.expanded). `files` are where it was read from: no key may be there twice.
    Raises InputError that names the key path, the value and what is allowed.
    """
    strict_yaml.check_files(files)
    strict_yaml.check_plain(config)
    config, swept = sweeps.expanded(copy.deepcopy(config), settable(), schema()["$defs"]["name"]["maxLength"])
    try:
        return {**_resolved(config), "sweeps": swept}
    except InputError as error:
        raise InputError(sweeps.as_written(str(error), swept)) from None


def settable() -> list[str]:
    """Paths of a run's settings that take one value (`model`, `training.learning_rate`), so that a list is a sweep."""
    run = {key: dereferenced(node) for key, node in schema()["$defs"]["run"]["properties"].items()}
    inner = {
        f"{group}.{key}": dereferenced(node)
        for group, below in run.items()
        for key, node in below.get("properties", {}).items()
    }
    # of these a list would say something else
    several = ("train_on", "validate_on", "calibrate_on", *(path for path in inner if path.startswith("publish.")))
    return [path for path, node in {**run, **inner}.items() if path not in several and _takes_one(node)]


def _takes_one(node: dict[str, Any]) -> bool:
    """Whether a schema node allows neither a list nor a mapping."""
    choices = [dereferenced(choice) for choice in node.get("oneOf", [])]
    return not {"array", "object"} & set(listed(node.get("type", []))) and all(map(_takes_one, choices))


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    config = with_numbers(config, schema())
    check_schema(config)
    resolved = {
        "models": {name: with_defaults(model, "model") for name, model in config["models"].items()},
        "datasets": {name: with_defaults(dataset, "dataset") for name, dataset in config["datasets"].items()},
        "decodings": {name: _decoding(name, decoding) for name, decoding in config["decodings"].items()},
        "runs": {
            name: _merged_run(run, config.get("defaults", {}))
            for name, run in config["runs"].items()
            if ENSEMBLE not in run
        },
        "ensembles": {
            name: with_defaults(run, "ensemble_run") for name, run in config["runs"].items() if ENSEMBLE in run
        },
    }
    for kind, names in (("datasets", RESERVED_DATASETS), ("decodings", RESERVED_DECODINGS)):
        if taken := [name for name in names if name in resolved[kind]]:
            raise InputError(f"config: {kind}.{taken[0]}: the name is taken by a part of each run; choose another")
    for name, run in resolved["runs"].items():
        if run["train_on"] is None:
            _check_published(name, config["runs"][name])
        _check_run(name, run)
    every = {name: resolved["runs"].get(name) or resolved["ensembles"][name] for name in config["runs"]}
    for name, run in every.items():
        _check_names(name, run, resolved)
    lineage.check_parts(resolved)
    lineage.check_calibration(resolved)
    lineage.check_kept_epochs(resolved)
    lineage.check_teachers(resolved)
    lineage.publications(resolved)
    return resolved | comparisons.comparisons(config, every)


def check_schema(config: dict[str, Any]) -> None:
    """Raise InputError with the first three faults of a configuration against the schema."""
    validator = jsonschema.Draft202012Validator(schema())
    faults = sorted(validator.iter_errors(config), key=lambda fault: list(map(str, fault.absolute_path)))
    if faults:
        raise InputError("\n".join(f"config: {_explain(fault)}" for fault in faults[:3]))


def _explain(fault: jsonschema.ValidationError) -> str:
    where = ".".join(map(str, fault.absolute_path)) or "top level"
    if fault.validator == "additionalProperties":
        known = list(fault.schema.get("properties", {}))
        unknown = sorted(key for key in fault.instance if key not in known)
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"allowed: {', '.join(known)}"
        return f"{where}: unknown key `{unknown[0]}`; {hint}"
    if fault.validator == "oneOf":
        if "package" in fault.schema.get("properties", {}):
            return f"{where}: {ONE_SOURCE}"
        closest = [choice for choice in fault.context if choice.validator != "type"]
        return _explain(closest[0] if closest else fault.context[0])
    if fault.validator == "dependentRequired":
        return f"{where}: `repo` and `revision` go together"
    if fault.validator is None or fault.schema is False:
        return f"{where}: method `walkthrough` takes no such key"
    if fault.validator == "pattern":
        return f"{where}: {fault.instance!r} is not allowed; {_pattern_meaning(fault)}"
    return f"{where}: {fault.message}"


def _pattern_meaning(fault: jsonschema.ValidationError) -> str:
    meanings = {
        schema()["$defs"]["revision"]["pattern"]: "a commit is 40 hexadecimal digits (a branch or tag can move)",
        schema()["$defs"]["split"]["pattern"]: "a split is written `dataset/split`",
        schema()["$defs"]["name"]["pattern"]: "a name has letters, digits, `.`, `_` and `-`, a letter or digit first",
    }
    return meanings.get(fault.validator_value, f"it must match {fault.validator_value}")


def with_numbers(value: Any, node: dict[str, Any]) -> Any:
    """Make numbers what the schema wants: YAML reads `2e-5` as text, and 16.0 is a whole number all the same."""
    node = dereferenced(node)
    kinds = node.get("type", [])
    if isinstance(value, dict):
        for key, inner in value.items():
            below = node.get("properties", {}).get(key, node.get("additionalProperties"))
            if isinstance(below, dict):
                value[key] = with_numbers(inner, _chosen(below, inner))
    elif isinstance(value, list):
        return [with_numbers(inner, node.get("items", {})) for inner in value]
    elif isinstance(value, str) and "number" in kinds and SCIENTIFIC.fullmatch(value):
        return float(value)
    elif isinstance(value, float) and "integer" in kinds and value.is_integer():
        return int(value)
    return value


def _chosen(node: dict[str, Any], value: Any) -> dict[str, Any]:
    """The branch of an if, then, else of the schema that a value is checked against."""
    if "if" not in node or "then" not in node or "else" not in node:
        return node
    return node["then"] if jsonschema.Draft202012Validator(node["if"]).is_valid(value) else node["else"]


def with_defaults(values: dict[str, Any], definition: str) -> dict[str, Any]:
    """`values` and, for each key left out, the default of the schema's `definition` where it has one."""
    return _filled(values, schema()["$defs"][definition])


def _filled(values: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    filled = dict(values)
    for key, below in dereferenced(node).get("properties", {}).items():
        below = dereferenced(below)
        if below.get("type") == "object" and "properties" in below:
            filled[key] = _filled(values.get(key, {}), below)
        elif "default" in below:
            filled.setdefault(key, copy.deepcopy(below["default"]))
    return filled


def dereferenced(node: dict[str, Any]) -> dict[str, Any]:
    """A schema node with what its `$ref` points to, its own keys first."""
    while "$ref" in node:
        target: Any = schema()
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def _decoding(name: str, decoding: dict[str, Any]) -> dict[str, Any]:
    idle = [key for key in OF_CALIBRATION if decoding.get(key) is not None]
    if idle and decoding.get("null_threshold", "calibrated") != "calibrated":
        raise InputError(
            f"config: decodings.{name}.{idle[0]}: it needs null_threshold: calibrated, not {decoding['null_threshold']}"
        )
    return dict(decoding) if decoding["method"] == "walkthrough" else with_defaults(decoding, "decoding")


def _merged_run(run: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    merged = dict(run)
    for group in GROUPS:
        own, general = run.get(group), defaults.get(group)
        if isinstance(own, dict) or isinstance(general, dict):
            merged[group] = {**(general or {}), **(own or {})}
        elif own is not None or general is not None:
            merged[group] = general if own is None else own
    merged = with_defaults(merged, "run")
    if merged["train_on"] is not None:
        merged["train_on"] = listed(merged["train_on"])
    return merged


def _check_names(name: str, run: dict[str, Any], resolved: dict[str, Any]) -> None:
    if name in RESERVED_RUNS:
        raise InputError(f"config: runs.{name}: the name is taken by results/{name}; choose another")
    if "model" in run:
        _known(f"runs.{name}.model", run["model"], resolved["models"])
    for decoding in run["decodings"]:
        _known(f"runs.{name}.decodings", decoding, resolved["decodings"])
    for key in ("train_on", "validate_on", "evaluate_on", "calibrate_on"):
        for split in listed(run.get(key) or []):
            dataset, part = split.split("/")
            _known(f"runs.{name}.{key}", dataset, resolved["datasets"])
            _known(f"runs.{name}.{key}", part, resolved["datasets"][dataset]["splits"])


def _check_run(name: str, run: dict[str, Any]) -> None:
    windows, training = run["windows"], run["training"]
    taken = (windows["max_question_length"] or 0) + LEAST_ROOM
    if windows["long_contexts"] == "windows":
        taken += windows["overlap"]
    if taken > windows["max_length"]:
        raise InputError(
            f"config: runs.{name}.windows: max_length {windows['max_length']} leaves no room for max_question_length "
            f"{windows['max_question_length']}, overlap {windows['overlap']} and special tokens; raise max_length or "
            "lower the others"
        )
    parts = training["accumulation_steps"] * training["gpus"] * training["nodes"]
    if run["train_on"] is not None and training["batch_size"] % parts:
        raise InputError(
            f"config: runs.{name}.training: accumulation_steps {training['accumulation_steps']} x gpus "
            f"{training['gpus']} x nodes {training['nodes']} does not divide batch_size {training['batch_size']}"
        )


def _check_published(name: str, own: dict[str, Any]) -> None:
    """Refuse settings of training that a run without training says itself; those of `defaults` are not for it."""
    for key in OF_TRAINING:
        if own.get(key) is not None:
            raise InputError(
                f"config: runs.{name}.{key}: this run trains nothing (train_on: null), so it has no use for it; "
                f"leave {key} out, or name a split to train on"
            )


def _known(where: str, name: str, names: dict[str, Any]) -> None:
    if name not in names:
        raise InputError(f"config: {where}: no `{name}` among {', '.join(names)}")


def trainings(resolved: dict[str, Any]) -> list[tuple[str, str]]:
    """Every (run, variant) that is trained."""
    trained = [(name, run) for name, run in resolved["runs"].items() if run["train_on"] is not None]
    return [(name, f"seed-{seed}") for name, run in trained for seed in run["seeds"]]


def model_folder(name: str, run: dict[str, Any], variant: str) -> str:
    """Folder of the model that a variant of the run `name` predicts with."""
    return f"resources/models/{run['model']}" if variant == PUBLISHED else f"results/{name}/{variant}/model"


def seed_of(variant: str) -> int:
    """The random seed of a variant."""
    return int(variant.removeprefix("seed-"))


def tokenization(run: dict[str, Any]) -> dict[str, Any]:
    """What `tokenize_and_label` reads; a key without effect is left out, so that it separates no runs."""
    windows = dict(run["windows"])
    if windows["long_contexts"] == "truncate":
        del windows["overlap"]
    return {"model": run["model"], **windows}


def windows_id(run: dict[str, Any]) -> str:
    """Folder name of a run's windows, equal for runs whose tokenizations are equal: `{model}-{8 digits}`."""
    return f"{run['model']}-{digest_of_json(tokenization(run))[:8]}"


def windows_folder(run: dict[str, Any], split: str) -> str:
    """Folder of a run's windows of a split, which is written `dataset/split`."""
    return f"results/windows/{split}/{windows_id(run)}"


def soft_targets_key(run: dict[str, Any]) -> str:
    """A taught run's teacher and temperature, in a file's name, so that runs which are taught alike share targets."""
    return f"{run['teacher'].replace('/', '@')}-{run['distillation']['temperature']:g}"


def training(run: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    """What `train` reads and what changes its result; the seed is its own param."""
    settings = {key: value for key, value in run["training"].items() if key not in SPEED_ONLY}
    if settings["max_steps"] is not None:
        del settings["epochs"]
    taught = {"distillation": run["distillation"]} if run["teacher"] else {}
    return {**settings, **computing(run), **taught, "overrides": models[run["model"]]["overrides"]}


def answering(decoding: dict[str, Any]) -> dict[str, Any]:
    """What `postprocess` reads of a decoding: not how it is calibrated."""
    return {key: value for key, value in decoding.items() if key not in OF_CALIBRATION}


def runtime_options(run: dict[str, Any]) -> dict[str, Any]:
    """What `train` reads and what changes no result: checkpoints, logging and reports, GPUs and nodes, compilation."""
    speed = {key: run["training"][key] for key in SPEED_ONLY}
    return {**run["checkpoints"], **speed, "report_to": run["report_to"]}


def prediction(run: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    """What `predict` reads; `overrides` are in the configuration of a trained model already."""
    overrides = models[run["model"]]["overrides"] if run["train_on"] is None else {}
    return {**run["prediction"], **computing(run), **({"overrides": overrides} if overrides else {})}


def computing(run: dict[str, Any]) -> dict[str, Any]:
    """What training and prediction both read: precision, padding, and where they are of effect, two settings more.

    These are `max_length`, where rows are padded to it, and `deterministic`.
    """
    more = {"max_length": run["windows"]["max_length"]} if run["padding"] == "max_length" else {}
    if run["deterministic"]:
        more["deterministic"] = True
    return {"precision": run["precision"], "padding": run["padding"], **more}


def scored(resolved: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Every (run, variant, `dataset/split`, decoding) that the configuration asks for."""
    for name, run in {**resolved["runs"], **resolved["ensembles"]}.items():
        for variant in variants(run):
            for split in run["evaluate_on"]:
                for decoding in run["decodings"]:
                    yield name, variant, split, decoding


def local_files(source: dict[str, Any], where: str) -> list[str]:
    """The user's own files behind a model or dataset, none for one from the hub or a package.

    Raises InputError where one is missing; `where` is its place in the configuration.
    """
    if "path" in source:
        folder = _own(source["path"], f"{where}.path")
        if not folder.is_dir():
            raise InputError(f"config: {where}.path: no such folder: {source['path']}")
        return sorted(str(path) for path in folder.iterdir() if path.is_file())
    if "splits" not in source or "repo" in source:
        return []
    splits = source["splits"].items()
    named = [(split, _own(file, f"{where}.splits.{split}")) for split, files in splits for file in listed(files)]
    for split, file in named:
        if not file.is_file():
            raise InputError(f"config: {where}.splits.{split}: no such file: {file}")
    return list(dict.fromkeys(str(file) for _, file in named))


def _own(path: str, where: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~nobody
        raise InputError(f"config: {where}: {path}: {first_line(error)}") from None


def listed(value: str | list[str]) -> list[str]:
    """One text or a list of texts, as a list."""
    return [value] if isinstance(value, str) else value
