"""The jobs that a configuration asks for, by their wildcards."""

from qa.config import lineage, stages
from qa.config.lineage import Part
from qa.config.schema import Configuration, Run

Wildcards = dict[str, str]


def jobs(resolved: Configuration) -> list[Wildcards]:
    """Sets of wildcards: each job that a resolved configuration asks for has its wildcards among those of one set."""
    runs = resolved.runs.values()
    return [
        *({"kind": kind, "name": name} for kind in ("models", "datasets") for name in getattr(resolved, kind)),
        *(
            {**_split(split), "share": f"{share:g}"}
            for run in runs
            if (share := lineage.held_out_share(run))
            for split in run.train_on or []
        ),
        *_tokenizations(resolved),
        *(
            {**_split(split), "windows_id": stages.windows_id(run), "soft_targets_key": stages.soft_targets_key(run)}
            for run in runs
            if run.teacher
            for split in lineage.training_splits(run)
        ),
        *({"run": run, "variant": variant} for run, variant in lineage.trainings(resolved)),
        *({"run": run, "variant": variant, **_split(split)} for (run, variant), split in predictions(resolved)),
        *(
            {"run": run, "variant": variant, **_split(split), "decoding": decoding}
            for run, variant, split, decoding in lineage.scored(resolved)
        ),
    ]


def _tokenizations(resolved: Configuration) -> list[Wildcards]:
    """Windows of all splits that train, validate, calibrate or are predicted, once for equal settings."""
    predicted: dict[str, dict[str, None]] = {}
    for (name, _), split in predictions(resolved):
        predicted.setdefault(name, {})[split] = None
    windows: dict[tuple[str, str], None] = {}
    for name, run in resolved.runs.items():
        splits = [*lineage.training_splits(run), *lineage.calibration_splits(run)]
        splits += [run.validate_on] if run.validate_on else []
        windows |= dict.fromkeys((split, stages.windows_id(run)) for split in [*splits, *predicted.get(name, ())])
    return [{**_split(split), "windows_id": windows_id} for split, windows_id in windows]


def predictions(resolved: Configuration) -> list[tuple[Part, str]]:
    """Every model and `dataset/split` that is predicted: to be scored, to calibrate, or to teach."""
    found: dict[tuple[Part, str], None] = {}
    for name, run in resolved.all_runs.items():
        calibrated = any(resolved.decodings[each].is_calibrated for each in run.decodings)
        splits = [*run.evaluate_on, *(lineage.calibration_of(resolved, name) if calibrated else [])]
        for variant in lineage.variants(run):
            found |= {(part, split): None for part in lineage.parts(resolved, name, variant) for split in splits}
        if not isinstance(run, Run) or not run.teacher:
            continue
        for part in lineage.parts_named(resolved, run.teacher):
            found |= {(part, split): None for split in lineage.training_splits(run)}
    return list(found)


def _split(split: str) -> dict[str, str]:
    dataset, part = split.split("/")
    return {"dataset": dataset, "split": part}
