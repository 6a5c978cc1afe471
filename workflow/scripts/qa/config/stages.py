"""What each stage reads of a configuration, as plain dictionaries for the params of its rule.

A stage's part is exactly what the stage reads, because Snakemake reruns a job when its params change.
"""

from typing import Any

from qa.common.files import digest_of_json
from qa.config.schema import Run
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


def training(run: Run, models: dict[str, PretrainedModel]) -> dict[str, Any]:
    """What `train` reads and what changes its result. The seed is a param of its own."""
    unused = {"epochs"} if run.training.max_steps is not None else set()
    unused |= {key for key in ("early_stopping", "questions") if getattr(run.training, key) is None}
    unused |= {"lora_rank", "lora_alpha"} if run.training.lora_rank is None else set()
    taught = {"distillation": run.distillation.model_dump()} if run.teacher else {}
    settings = run.training.model_dump(exclude={*SPEED_ONLY, *unused})
    return {**settings, **_computing(run), **taught, "overrides": models[run.pretrained].overrides}


def runtime_options(run: Run) -> dict[str, Any]:
    """What `train` reads and what changes no result: checkpoints, logging, reports, GPUs, memory and compilation."""
    speed = run.training.model_dump(include=set(SPEED_ONLY))
    return {**run.checkpoints.model_dump(), **speed, "report_to": run.report_to}


def prediction(run: Run, models: dict[str, PretrainedModel]) -> dict[str, Any]:
    """What `predict` reads. A trained model has its `overrides` in its own configuration already."""
    overrides = {} if run.is_trained else models[run.pretrained].overrides
    return {**run.prediction.model_dump(), **_computing(run), **({"overrides": overrides} if overrides else {})}


def calibrating(decoding: Decoding) -> dict[str, Any]:
    """What `calibrate` reads of a decoding."""
    return decoding.model_dump()


def answering(decoding: Decoding) -> dict[str, Any]:
    """What `postprocess` reads of a decoding: not how it is calibrated."""
    return decoding.model_dump(exclude={"calibrate_for", "unanswerable_prior"})


def _computing(run: Run) -> dict[str, Any]:
    """What training and prediction both read; `max_length` and `deterministic` only if they have an effect."""
    more: dict[str, Any] = {"max_length": run.windows.max_length} if run.padding == "max_length" else {}
    if run.deterministic:
        more["deterministic"] = True
    return {"precision": run.precision, "padding": run.padding, **more}
