"""What a configuration says of a trained model that others will use: how it is asked, where it is from, its name."""

from pathlib import Path
from typing import Any

from qa.common.errors import InputError
from qa.config import lineage, settings
from qa.plan.rule_inputs import Files


def shared(resolved: dict[str, Any], name: str, variant: str) -> dict[str, Any]:
    """What a run's variant is shared with, for packages.describe and packages.package.

    `windows`, `prediction` and `decodings` are how it answers, a calibrated threshold still by name; `model` and
    `datasets` where it is from; `scored` the (split, decoding) and `calibrated` the decodings whose files
    `needs_of_package` names, in that order. Raises InputError for a run that trains nothing.
    """
    run = _trained(resolved, name, variant)
    windows = settings.tokenization(run)
    del windows["model"]
    model = resolved["models"][run["model"]]
    calibration = lineage.calibration_splits(run)
    return {
        "run": name,
        "variant": variant,
        "repo": run["publish"]["repo"],
        "windows": windows,
        "prediction": settings.prediction(run, resolved["models"]),
        "decodings": {each: settings.answering(resolved["decodings"][each]) for each in run["decodings"]},
        "model": {"name": run["model"], **_source(model)},
        "license": model["license"],
        "train_on": run["train_on"],
        "calibrate_on": calibration,
        "teacher": run["teacher"],
        "datasets": {each: _source(resolved["datasets"][each]) for each in _datasets(run)},
        "scored": [[split, decoding] for split in run["evaluate_on"] for decoding in run["decodings"]],
        "calibrated": _calibrated(resolved, run),
    }


def needs_of_package(resolved: dict[str, Any], name: str, variant: str) -> Files:
    """The files that a package of a run's variant is made of. Raises InputError for a run that trains nothing."""
    run = _trained(resolved, name, variant)
    folder = f"results/{name}/{variant}"
    return {
        "model": f"{folder}/model",
        "manifest": f"{folder}/manifest.json",
        "pretrained": f"resources/models/{run['model']}",
        "datasets": [f"resources/datasets/{each}" for each in _datasets(run)],
        "metrics": [
            f"{folder}/{split}/{decoding}/metrics.json" for split in run["evaluate_on"] for decoding in run["decodings"]
        ],
        "calibrations": [f"{folder}/calibration/{each}.json" for each in _calibrated(resolved, run)],
    }


def packages(resolved: dict[str, Any]) -> list[str]:
    """The folder of each package that a configuration asks for: one a training."""
    return [f"results/{run}/{variant}/package" for run, variant in settings.trainings(resolved)]


def publications(resolved: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each package that is to be published, by its folder, the `repo` on the hub and whether it is `private`.

    Raises InputError where no run names a repository.
    """
    published = lineage.publications(resolved)
    if not published:
        raise InputError("nothing to publish: name a repository for a run (runs.*.publish.repo)")
    chosen = {name: resolved["runs"][name]["publish"] for name in published}
    return {
        f"results/{name}/{variant}/package": {key: chosen[name][key] for key in ("repo", "private")}
        for name, variant in published.items()
    }


def _trained(resolved: dict[str, Any], name: str, variant: str) -> dict[str, Any]:
    lineage.parts(resolved, name, variant)
    run = resolved["runs"].get(name)
    if run is None or not run["train_on"]:
        raise InputError(f"run `{name}` trains no model of its own, so there is none to share")
    return run


def _datasets(run: dict[str, Any]) -> list[str]:
    """Datasets whose questions train, calibrate or score a run."""
    splits = [*run["train_on"], *(run["calibrate_on"] or []), *run["evaluate_on"]]
    return list(dict.fromkeys(split.split("/")[0] for split in splits))


def _calibrated(resolved: dict[str, Any], run: dict[str, Any]) -> list[str]:
    return [each for each in run["decodings"] if lineage.is_calibrated(resolved["decodings"][each])]


def _source(source: dict[str, Any]) -> dict[str, Any]:
    """Where a model or dataset is from, of local files no more than their names: a path tells whose machine it was."""
    known = {key: source[key] for key in ("repo", "revision", "package", "directory") if key in source}
    if "splits" in source:
        files = {split: settings.listed(given) for split, given in source["splits"].items()}
        known["splits"] = files if "repo" in source else {s: [Path(f).name for f in each] for s, each in files.items()}
    return known
