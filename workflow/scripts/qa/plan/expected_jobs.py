"""The jobs that a configuration asks for, by their wildcards."""

from qa.config import lineage, stages
from qa.config.lineage import Part
from qa.config.schema import Configuration, Ensemble


def jobs(resolved: Configuration) -> list[dict[str, str]]:
    """Sets of wildcards: each job that a resolved configuration asks for has its wildcards among those of one set."""
    sources = [{"kind": kind, "name": name} for kind in ("models", "datasets") for name in getattr(resolved, kind)]
    trainings = [{"run": run, "variant": variant} for run, variant in lineage.trainings(resolved)]
    asked = [
        {"run": run, "variant": variant, **_split(split), "decoding": decoding}
        for run, variant, split, decoding in lineage.scored(resolved)
    ]
    foreseen = predictions(resolved)
    predicted = [{"run": run, "variant": variant, **_split(split)} for (run, variant), split in foreseen]
    answered: dict[str, dict[str, None]] = {name: {} for name in resolved.runs}
    for (name, _), split in foreseen:
        answered[name][split] = None
    windows = {
        (split, stages.windows_id(run)): None
        for name, run in resolved.runs.items()
        for split in [
            *lineage.training_splits(run),
            *lineage.calibration_splits(run),
            *filter(None, [run.validate_on]),
            *answered[name],
        ]
    }
    taught = [
        {**_split(split), "windows_id": stages.windows_id(run), "soft_targets_key": stages.soft_targets_key(run)}
        for run in resolved.runs.values()
        if run.teacher
        for split in lineage.training_splits(run)
    ]
    divided = [
        {**_split(split), "share": f"{share:g}"}
        for run in resolved.runs.values()
        if (share := lineage.held_out_share(run))
        for split in run.train_on or []
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


def predictions(resolved: Configuration) -> list[tuple[Part, str]]:
    """Every model and `dataset/split` that is predicted: to be scored, to calibrate, or to teach."""
    found: dict[tuple[Part, str], None] = {}
    for name, run in resolved.all_runs.items():
        calibrated = any(resolved.decodings[each].is_calibrated for each in run.decodings)
        splits = [*run.evaluate_on, *(lineage.calibration_of(resolved, name) if calibrated else [])]
        for variant in lineage.variants(run):
            found |= {(part, split): None for part in lineage.parts(resolved, name, variant) for split in splits}
        if isinstance(run, Ensemble) or not run.teacher:
            continue
        for part in lineage.parts_named(resolved, run.teacher):
            found |= {(part, split): None for split in lineage.training_splits(run)}
    return list(found)


def _split(split: str) -> dict[str, str]:
    dataset, part = split.split("/")
    return {"dataset": dataset, "split": part}
