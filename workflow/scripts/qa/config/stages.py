"""What each stage reads of a configuration, as plain dictionaries for the params of its rule.

A stage's part is exactly what the stage reads, because Snakemake reruns a job when its params change.
"""

from typing import Any

from qa.common.files import digest_of_json
from qa.config import lineage
from qa.config.schema import Configuration, Run
from qa.config.sections import Dataset, Decoding, PretrainedModel

# settings of training that change results by rounding and dropout masks only
SPEED_ONLY = ("gpus", "nodes", "compile", "gradient_checkpointing")


def source(part: PretrainedModel | Dataset) -> dict[str, Any]:
    """What `download` reads of a model or dataset."""
    return part.model_dump(exclude={"overrides", "license", "misaligned", "limit", "f1_by"}, exclude_none=True)


def tokenization(run: Run) -> dict[str, Any]:
    """What `tokenize_and_label` reads. A setting without effect is left out, so that it separates no runs."""
    unused = {"overlap"} if run.windows.long_contexts == "truncate" else set()
    unused |= {"answers"} if run.windows.answers == "first" else set()
    return {"model": run.pretrained, **run.windows.model_dump(exclude=unused)}


def windows_id(run: Run) -> str:
    """Name of the folder of a run's windows, `{model}-{8 digits}`. Runs with equal tokenizations share it."""
    return f"{run.pretrained}-{digest_of_json(tokenization(run))[:8]}"


def windows_folder(run: Run, split: str) -> str:
    """Folder of a run's windows of a split, which is written `dataset/split`."""
    return f"results/windows/{split}/{windows_id(run)}"


def soft_targets_key(run: Run) -> str:
    """Teacher and temperature of a student, as part of a file's name. Students with an equal key share soft targets."""
    return f"{str(run.teacher).replace('/', '@')}-{run.distillation.temperature:g}"


def training(run: Run, config: Configuration) -> dict[str, Any]:
    """What `train` reads and what changes its result. The seed is a param of its own."""
    unused = {"epochs"} if run.training.max_steps is not None else set()
    unused |= {key for key in ("early_stopping", "questions") if getattr(run.training, key) is None}
    unused |= {"lora_rank", "lora_alpha"} if run.training.lora_rank is None else set()
    taught = {"distillation": run.distillation.model_dump()} if run.teacher else {}
    settings = run.training.model_dump(exclude={*SPEED_ONLY, *unused})
    f1_by = lineage.f1_by(config, lineage.calibration_splits(run)) if run.training.keep_epoch == "best" else []
    measured = {"f1_by": f1_by} if {*f1_by} - {"words"} else {}
    return {**settings, **measured, **_computing(run), **taught, "overrides": config.models[run.pretrained].overrides}


def runtime_options(run: Run) -> dict[str, Any]:
    """What `train` reads and what changes no result: checkpoints, logging, reports, GPUs, memory and compilation."""
    speed = run.training.model_dump(include=set(SPEED_ONLY))
    return {**run.checkpoints.model_dump(), **speed, "report_to": run.report_to}


def prediction(run: Run, models: dict[str, PretrainedModel]) -> dict[str, Any]:
    """What `predict` reads. A trained model has its `overrides` in its own configuration already."""
    overrides = {} if run.is_trained else models[run.pretrained].overrides
    return {**run.prediction.model_dump(), **_computing(run), **({"overrides": overrides} if overrides else {})}


def answering(decoding: Decoding) -> dict[str, Any]:
    """What `postprocess` reads of a decoding: not how it is calibrated."""
    return decoding.model_dump(exclude={"calibrate_for", "unanswerable_prior"})


def answered_with(config: Configuration, name: str, variant: str, split: str, decoding: str) -> dict[str, Any]:
    """Every setting behind the scores of a set of answers, by its place, as the scores record them.

    Where models and data are from is not among them: the downloads record that.
    """
    models = lineage.parts(config, name, variant)
    calibrating = lineage.calibration_of(config, name) if config.decodings[decoding].is_calibrated else []
    found = {**config.decodings[decoding].model_dump(), "calibrate_on": calibrating}
    splits = counted = [split, *calibrating]
    for each in lineage.with_sources(config, [run for run, _ in models]):
        run = config.runs[each]
        parts = {"windows": tokenization(run), "prediction": prediction(run, config.models)}
        if run.is_trained:
            trained, held_out = lineage.training_splits(run), lineage.calibration_splits(run)
            teachers = _named(lineage.parts_named(config, run.teacher)) if run.teacher else []
            parts["training"] = {**training(run, config), **run.model_dump(include={"model", "validate_on"})}
            parts["training"] |= {"train_on": trained, "calibrate_on": held_out, "teacher": teachers}
            splits = [*splits, *trained, *held_out, *([run.validate_on] if run.validate_on else [])]
        found |= {f"runs.{each}.{part}.{key}": value for part, read in parts.items() for key, value in read.items()}
    for where, keys in (splits, ("misaligned", "limit")), (counted, ("f1_by",)):
        for dataset in dict.fromkeys(one.split("/")[0] for one in where):
            found |= {f"datasets.{dataset}.{key}": getattr(config.datasets[dataset], key) for key in keys}
    return {**found, "models": _named(models)}


def _named(models: list[lineage.Part]) -> list[str]:
    return [f"{run}/{variant}" for run, variant in models]


def _computing(run: Run) -> dict[str, Any]:
    """What training and prediction both read; `max_length` and `deterministic` only if they have an effect."""
    more: dict[str, Any] = {"max_length": run.windows.max_length} if run.padding == "max_length" else {}
    if run.deterministic:
        more["deterministic"] = True
    return {"precision": run.precision, "padding": run.padding, **more}
