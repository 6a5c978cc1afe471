"""The jobs that a configuration asks for, by their wildcards."""

from typing import Any

from qa.config import lineage, settings
from qa.config.lineage import Part


def jobs(resolved: dict[str, Any]) -> list[dict[str, str]]:
    """Sets of wildcards: each job that a resolved configuration asks for has its wildcards among those of one set."""
    sources = [{"kind": kind, "name": name} for kind in ("models", "datasets") for name in resolved[kind]]
    trainings = [{"run": run, "variant": variant} for run, variant in settings.trainings(resolved)]
    asked = [
        {"run": run, "variant": variant, **_split(split), "decoding": decoding}
        for run, variant, split, decoding in settings.scored(resolved)
    ]
    foreseen = predictions(resolved)
    predicted = [{"run": run, "variant": variant, **_split(split)} for (run, variant), split in foreseen]
    answered: dict[str, dict[str, None]] = {name: {} for name in resolved["runs"]}
    for (name, _), split in foreseen:
        answered[name][split] = None
    windows = {
        (split, settings.windows_id(run)): None
        for name, run in resolved["runs"].items()
        for split in [
            *lineage.training_splits(run),
            *lineage.calibration_splits(run),
            *filter(None, [run["validate_on"]]),
            *answered[name],
        ]
    }
    taught = [
        {**_split(split), "windows_id": settings.windows_id(run), "soft_targets_key": settings.soft_targets_key(run)}
        for run in resolved["runs"].values()
        if run["teacher"]
        for split in lineage.training_splits(run)
    ]
    divided = [
        {**_split(split), "share": f"{share:g}"}
        for run in resolved["runs"].values()
        if (share := lineage.held_out_share(run))
        for split in run["train_on"]
    ]
    return (
        sources
        + trainings
        + [{**_split(split), "windows_id": windows_id} for split, windows_id in windows]
        + predicted
        + asked
        + taught
        + divided
    )


def predictions(resolved: dict[str, Any]) -> list[tuple[Part, str]]:
    """Every model and `dataset/split` that is predicted: to be scored, to calibrate, or to teach."""
    found: dict[tuple[Part, str], None] = {}
    for name, run in {**resolved["runs"], **resolved["ensembles"]}.items():
        calibrated = any(lineage.is_calibrated(resolved["decodings"][each]) for each in run["decodings"])
        splits = [*run["evaluate_on"], *(lineage.calibration_of(resolved, name) if calibrated else [])]
        for variant in lineage.variants(run):
            found |= {(part, split): None for part in lineage.parts(resolved, name, variant) for split in splits}
        for part in lineage.parts_named(resolved, run["teacher"]) if run.get("teacher") else []:
            found |= {(part, split): None for split in lineage.training_splits(run)}
    return list(found)


def _split(split: str) -> dict[str, str]:
    dataset, part = split.split("/")
    return {"dataset": dataset, "split": part}
