"""The files that a stage needs, for a run, variant, split and decoding: the inputs of its rule."""

from qa.common.errors import InputError
from qa.config import lineage, stages
from qa.config.schema import AS_GIVEN, Configuration, Run
from qa.config.sections import Decoding
from qa.plan.code_digest import LIBRARY, code_digest

OF_TRAINING = ("training.csv", "manifest.json")
OF_ANSWERS = (
    *("answers.json", "null_scores.json", "no_answer_probabilities.json", "nbest.parquet"),
    *("metrics.json", "question_scores.parquet", "slices.csv", "errors.parquet", "risk_coverage.csv"),
)
Files = dict[str, str | list[str]]


def training(resolved: Configuration, name: str, variant: str) -> Files:
    """What `train` needs. Raises InputError for a run that trains nothing.

    `pretrained` is there only where `model` is that of another run, which does not have the pretrained model's licence.
    """
    if name not in resolved.runs:
        raise InputError(f"no run `{name}` among {', '.join(resolved.runs)}")
    run = resolved.runs[name]
    if not run.train_on:
        raise InputError(f"run `{name}` trains nothing (train_on: null)")
    needed: Files = {
        "model": lineage.first_model(run, variant),
        "windows": [stages.windows_folder(run, split) for split in lineage.training_splits(run)],
    }
    if lineage.earlier(run, variant):
        needed["pretrained"] = f"resources/models/{run.pretrained}"
    held_out = lineage.calibration_splits(run)
    if held_out:  # epochs are scored on these, and windows have no gold answers
        needed["held_out_records"] = [questions(split) for split in held_out]
        needed["held_out_windows"] = [stages.windows_folder(run, split) for split in held_out]
    if validation := [run.validate_on] if run.validate_on else held_out:
        needed["validation"] = [stages.windows_folder(run, split) for split in validation]
    if run.teacher:
        key, soft_targets_key = stages.windows_id(run), stages.soft_targets_key(run)
        needed["targets"] = [
            f"results/targets/{split}/{key}/{soft_targets_key}.parquet" for split in lineage.training_splits(run)
        ]
    return needed


def measuring(run: Run) -> str:
    """A digest of the code that finds the best epoch, where a run keeps that one; else ""."""
    return code_digest(LIBRARY / "training" / "epochs.py") if run.training.keep_epoch == "best" else ""


def teaching(resolved: Configuration, split: str, key: str, soft_targets_key: str) -> Files:
    """What `soft_targets` needs for a student's windows. Raises InputError where no run has such soft targets."""
    soft_targets_keys = {stages.soft_targets_key(run): run.teacher for run in resolved.runs.values() if run.teacher}
    if soft_targets_key not in soft_targets_keys:
        raise InputError(
            f"no run has soft targets {soft_targets_key}; there are {', '.join(soft_targets_keys) or 'none'}"
        )
    teachers = lineage.parts_named(resolved, soft_targets_keys[soft_targets_key])
    return {
        "spans": [f"results/{run}/{variant}/{split}/spans.parquet" for run, variant in teachers],
        "student": f"results/windows/{split}/{key}",
    }


def calibration(resolved: Configuration, name: str, variant: str, decoding: str) -> Files:
    """What `calibrate` needs: held-out questions, and for each split the spans of each of the variant's models.

    Raises InputError where there is nothing to calibrate.
    """
    lineage.parts(resolved, name, variant)  # first of all, whether there is such a variant
    splits = lineage.calibration_of(resolved, name)
    if not splits or not _decoding(resolved, decoding).is_calibrated:
        raise InputError(
            f"nothing to calibrate: run `{name}` holds no questions out, or `{decoding}` has no `null_threshold: "
            "calibrated`"
        )
    return {
        "questions": [questions(split) for split in splits],
        "spans": [file for split in splits for file in lineage.spans(resolved, name, variant, split)],
    }


def answering(resolved: Configuration, name: str, variant: str, split: str, decoding: str) -> Files:
    """What `postprocess` needs: questions, spans of each of the variant's models, and the calibration if any.

    A variant whose answers come from a file has no spans. Raises InputError where there are no such answers.
    """
    needed: Files = {"spans": lineage.spans(resolved, name, variant, split), "questions": questions(split)}
    if external := resolved.external.get(name):
        if split not in external.evaluate_on or decoding not in external.decodings:
            raise InputError(f"run `{name}` has answers to {', '.join(external.evaluate_on)} only, {AS_GIVEN}")
        return needed
    if _decoding(resolved, decoding).is_calibrated:
        needed["calibration"] = f"results/{name}/{variant}/calibration/{decoding}.json"
    return needed


def trained_on(resolved: Configuration, name: str, variant: str) -> list[str]:
    """The questions that trained a variant's models and what these learned from; [] if none was trained here."""
    runs = lineage.with_sources(resolved, [run for run, _ in lineage.parts(resolved, name, variant)])
    splits = [split for run in runs for split in lineage.training_splits(resolved.runs[run])]
    return list(dict.fromkeys(map(questions, splits)))


def reported(resolved: Configuration) -> list[str]:
    """What `report` reads beside its rule's input, which lies downstream of all of these."""
    return [*results(resolved), *dict.fromkeys(questions(split) for _, _, split, _ in lineage.scored(resolved))]


def results(resolved: Configuration) -> list[str]:
    """The files that a run is for, but models, packages and what is made of all jobs."""
    files = ["results/summary.csv", "results/comparison.csv"]
    files += [f"results/{run}/{variant}/{file}" for run, variant in lineage.trainings(resolved) for file in OF_TRAINING]
    for run, variant, split, decoding in lineage.scored(resolved):
        files += [f"results/{run}/{variant}/{split}/{decoding}/{file}" for file in OF_ANSWERS]
        if resolved.decodings[decoding].is_calibrated:
            files += [f"results/{run}/{variant}/calibration/{decoding}.{kind}" for kind in ("json", "parquet")]
    return list(dict.fromkeys(files))


def _decoding(resolved: Configuration, name: str) -> Decoding:
    if name not in resolved.decodings:
        raise InputError(f"no decoding `{name}` in the configuration: {', '.join(resolved.decodings)}")
    return resolved.decodings[name]


def questions(split: str) -> str:
    """The file of a split's questions."""
    return f"results/questions/{split}.parquet"
