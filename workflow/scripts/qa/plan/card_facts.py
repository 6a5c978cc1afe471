"""What a configuration says of a trained model that others will use: how it is asked, where it is from, its name."""

from pathlib import Path
from typing import Any

from qa.common.errors import InputError
from qa.config import lineage, stages
from qa.config.fields import listed
from qa.config.schema import Configuration, Run
from qa.config.sections import Dataset, PretrainedModel
from qa.plan.rule_inputs import Files


def shared(resolved: Configuration, name: str, variant: str) -> dict[str, Any]:
    """What a run's variant is shared with, for packages.describe and packages.package.

    `windows`, `prediction` and `decodings` are how it answers, a calibrated threshold still by name; `model`, `before`
    (the trainings before its own, if any) and `datasets` where it is from; `limits` those of datasets (see
    lineage.limits); `scored` the (split, decoding) and `calibrated` the decodings whose files `needs_of_package` names,
    in that order. Raises InputError for a run that trains nothing.
    """
    run = _trained(resolved, name, variant)
    windows = stages.tokenization(run)
    del windows["model"]
    model = resolved.models[run.pretrained]
    before = [
        {"run": run, "variant": variant, "train_on": resolved.runs[run].train_on}
        for run, variant in lineage.all_earlier(resolved, name, variant)
    ]
    calibration = lineage.calibration_splits(run)
    return {
        "run": name,
        "variant": variant,
        "repo": run.publish.repo,
        "windows": windows,
        "prediction": stages.prediction(run, resolved.models),
        "decodings": {each: stages.answering(resolved.decodings[each]) for each in run.decodings},
        "model": {"name": run.pretrained, **_source(model)},
        **({"before": before} if before else {}),
        "license": model.license,
        "limits": lineage.limits(resolved, name, run.evaluate_on),
        "train_on": run.train_on,
        "calibrate_on": calibration,
        "teacher": run.teacher,
        "datasets": {each: _source(resolved.datasets[each]) for each in _datasets(resolved, name)},
        "scored": [[split, decoding] for split in run.evaluate_on for decoding in run.decodings],
        "calibrated": _calibrated(resolved, run),
    }


def needs_of_package(resolved: Configuration, name: str, variant: str) -> Files:
    """The files that a package of a run's variant is made of. Raises InputError for a run that trains nothing."""
    run = _trained(resolved, name, variant)
    folder = f"results/{name}/{variant}"
    return {
        "model": f"{folder}/model",
        "manifest": f"{folder}/manifest.json",
        "history": f"{folder}/training.csv",  # which only the report reads, by its place: here it is missed when lost
        "pretrained": f"resources/models/{run.pretrained}",
        "datasets": [f"resources/datasets/{each}" for each in _datasets(resolved, name)],
        "metrics": [
            f"{folder}/{split}/{decoding}/metrics.json" for split in run.evaluate_on for decoding in run.decodings
        ],
        "calibrations": [f"{folder}/calibration/{each}.json" for each in _calibrated(resolved, run)],
    }


def publications(resolved: Configuration) -> dict[str, dict[str, Any]]:
    """For each package that is to be published, by its folder, the `repo` on the hub and whether it is `private`.

    Raises InputError where no run names a repository.
    """
    published = {}
    for name, run in resolved.runs.items():
        if run.publish.repo is not None:
            seed = run.seeds[0] if run.publish.seed is None else run.publish.seed
            published[f"results/{name}/seed-{seed}/package"] = run.publish.model_dump(include={"repo", "private"})
    if not published:
        raise InputError("nothing to publish: name a repository for a run (runs.*.publish.repo)")
    return published


def _trained(resolved: Configuration, name: str, variant: str) -> Run:
    lineage.parts(resolved, name, variant)
    run = resolved.runs.get(name)
    if run is None or not run.is_trained:
        raise InputError(f"run `{name}` trains no model of its own, so there is none to share")
    return run


def _datasets(resolved: Configuration, name: str) -> list[str]:
    """Datasets whose questions train, calibrate or score a run, or trained the model that it started from."""
    run = resolved.runs[name]
    splits = [*(run.train_on or []), *(run.calibrate_on or []), *run.evaluate_on]
    for earlier, _ in lineage.all_earlier(resolved, name, ""):
        splits += resolved.runs[earlier].train_on or []
    return list(dict.fromkeys(split.split("/")[0] for split in splits))


def _calibrated(resolved: Configuration, run: Run) -> list[str]:
    return [each for each in run.decodings if resolved.decodings[each].is_calibrated]


def _source(source: PretrainedModel | Dataset) -> dict[str, Any]:
    """Where a model or dataset is from. Of local files only the names: a path would tell whose machine it was."""
    known = source.model_dump(include={"repo", "revision", "package", "directory"}, exclude_none=True)
    if isinstance(source, Dataset):
        files = {split: listed(named) for split, named in source.splits.items()}
        if source.repo is None:
            files = {split: [Path(file).name for file in named] for split, named in files.items()}
        known["splits"] = files
    return known
