"""Trainings of tiny models, started as the adapter of the rule `train` starts them."""

from pathlib import Path
from typing import Any

import tiny
from qa.data.prepare_questions import convert
from qa.training.spec import Identity, RuntimeOptions, TrainingInputs, TrainingOutputs, TrainingSettings, TrainingSpec
from qa.training.train import train as train_spec
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

OUTPUTS = {name: name for name in ("model", "history", "manifest", "checkpoints")}


def inputs_in(folder: Path) -> dict[str, Any]:
    """A tiny model, and windows of 15 questions to train on and to validate on; their questions are `r.parquet`."""
    tiny.save_model(folder / "model")
    convert([tiny.write_squad(folder / "q.json", questions=15)], folder / "r.parquet")
    tokenize(folder / "r.parquet", load_tokenizer(folder / "model"), tiny.WINDOWS, folder / "windows")
    windows = [str(folder / "windows")]
    return {"model": str(folder / "model"), "windows": windows, "validation": windows}


def spec_of(
    inputs: dict[str, Any],
    settings: dict[str, Any] = tiny.TRAINING,
    options: dict[str, Any] = tiny.RUNTIME_OPTIONS,
    seed: int = 1,
) -> TrainingSpec:
    """A training by what the rule gives its adapter."""
    return TrainingSpec(TrainingInputs.of(inputs), TrainingSettings.of(settings), seed, RuntimeOptions(**options))


def train(
    inputs: dict[str, Any],
    folder: Path,
    settings: dict[str, Any] = tiny.TRAINING,
    options: dict[str, Any] = tiny.RUNTIME_OPTIONS,
    code: str = "x",
    outputs: dict[str, str] = OUTPUTS,
    seed: int = 1,
) -> Path:
    """Train into a folder and return it. `outputs` are paths below the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = TrainingOutputs(**{name: str(folder / path) for name, path in outputs.items()})
    train_spec(spec_of(inputs, settings, options, seed), paths, Identity("r", "seed-1", code, {}))
    return folder
