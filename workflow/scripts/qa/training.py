"""Fine-tuning with the Hugging Face Trainer: same inputs, same weights; resumed where it stopped."""

import csv
import logging
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from qa import devices, manifest
from qa.batching import Padder
from qa.checkpoints import MarkComplete, TrainingMemory
from qa.files import write_json, written_aside
from qa.models import inputs_of, load_model
from qa.progress import Progress
from qa.windows import load_tokenizer, load_windows

MODEL_COLUMNS = ["input_ids", "token_type_ids", "start_positions", "end_positions"]
CSV_COLUMNS = {
    "step": "step",
    "epoch": "epoch",
    "loss": "loss",
    "eval_loss": "validation_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "samples_per_second": "samples_per_second",
}
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}

log = logging.getLogger(__name__)


class Watch(TrainerCallback):
    """A progress line every few seconds, samples/s in each logged row, and a row at each checkpoint.

    The row makes a resumed run log the same losses as an undisturbed one: a row's loss is the mean since the row
    before, and the sum that leads there is in no checkpoint. A checkpoint at the end of an epoch, or of training, waits
    for the evaluation there, which a resumed run would skip otherwise.
    """

    def __init__(self, windows: int):
        self.windows = windows
        self.progress: Progress | None = None
        self.logged_at = (0.0, 0.0)
        self.save_waits = False

    def _samples(self, state: Any) -> float:
        return (state.epoch or 0.0) * self.windows

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer before the first step."""
        self.progress = Progress("train", state.max_steps, "steps", state.global_step)
        self.logged_at = (time.monotonic(), self._samples(state))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after each optimizer step."""
        if control.should_save:
            control.should_log = True
            self.save_waits = float(state.epoch).is_integer() or state.global_step >= state.max_steps
            control.should_save = not self.save_waits
        rate = self.progress.rate * self._samples(state) / max(state.global_step, 1)
        losses = [row["loss"] for row in state.log_history[-3:] if "loss" in row]
        loss = f", loss {losses[-1]:.3f}" if losses else ""
        self.progress.reach(state.global_step, f", {rate:.1f} samples/s{loss}")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer at the end of an epoch or of training, before it evaluates and saves."""
        control.should_save |= self.save_waits
        self.save_waits = False

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after it has added a row to the history."""
        if "loss" in state.log_history[-1]:
            (before, samples), now = self.logged_at, time.monotonic()
            rate = (self._samples(state) - samples) / max(now - before, 1e-9)
            state.log_history[-1]["samples_per_second"] = round(rate, 2)
            self.logged_at = (now, self._samples(state))


def training_arguments(
    settings: dict[str, Any], seed: int, running: dict[str, Any], folder: Path, validate: bool
) -> TrainingArguments:
    """The Trainer's arguments for a run's settings; `running` holds the settings that change no result."""
    precision = settings["precision"]
    return TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        per_device_train_batch_size=settings["batch_size"] // settings["accumulation_steps"],
        per_device_eval_batch_size=settings["batch_size"] // settings["accumulation_steps"],
        gradient_accumulation_steps=settings["accumulation_steps"],
        num_train_epochs=settings.get("epochs", 1),
        max_steps=settings["max_steps"] or -1,
        learning_rate=settings["learning_rate"],
        lr_scheduler_type=SCHEDULES[settings["schedule"]],
        warmup_steps=settings["warmup"],
        weight_decay=settings["weight_decay"],
        max_grad_norm=settings["max_gradient_norm"],
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        tf32=precision == "tf32",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch" if validate else "no",
        prediction_loss_only=True,
        logging_steps=running["log_every_steps"],
        logging_nan_inf_filter=False,
        save_steps=running["every_steps"],
        save_total_limit=running["keep"],
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["start_positions", "end_positions"],
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def train(
    inputs: dict[str, str],
    settings: dict[str, Any],
    seed: int,
    running: dict[str, Any],
    outputs: dict[str, str],
    identity: dict[str, Any],
) -> None:
    """Fine-tune a model and write its folder, the history of its training and its manifest.

    `inputs` are the folders `model`, `windows` and, where a loss is wanted after each epoch, `validation`; `settings`
    what determines the result; `running` the checkpoint and logging intervals and the number of CPU threads; `outputs`
    the folders `model` and `checkpoints` and the files `history` and `manifest`; `identity` what else the manifest
    says, with the digest `code` that the checkpoints' fingerprint needs. On a CPU, a training that was killed and
    resumed ends with the same bytes as one that was not. Raises InputError for a model that cannot be loaded or a
    precision that this machine lacks.
    """
    started = datetime.now(UTC)
    devices.device()
    devices.check_precision(settings["precision"])
    devices.set_threads(running["threads"])
    hashes, versions = manifest.input_hashes(inputs), manifest.versions()
    determinants = {
        "settings": settings,
        "seed": seed,
        "inputs": hashes,
        "code": identity["code"],
        "versions": versions,
    }
    memory = TrainingMemory(outputs["checkpoints"], determinants)
    resume = memory.begin()
    model, state = finished(resume)
    if model is None:
        trainer = _trainer(inputs, settings, seed, running, memory.checkpoints)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        model, state = trainer.model, trainer.state
    _write_history(outputs["history"], state.log_history)
    with written_aside(outputs["model"], directory=True) as aside:
        model.save_pretrained(aside)
        load_tokenizer(inputs["model"]).save_pretrained(aside)
    made = {
        **manifest.code_state(),
        **identity,
        "seed": seed,
        "settings": settings,
        "inputs": hashes,
        "versions": versions,
        "machine": manifest.machine(),
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": state.global_step,
        "training_windows": len(load_windows(inputs["windows"])),
        "samples_per_second": _usual_rate(state.log_history),
        **manifest.peak_memory(),
        "attempts": memory.attempts(),
    }
    write_json(outputs["manifest"], made)
    if not running["keep_after_success"]:
        memory.forget()


def finished(checkpoint: Path | None) -> tuple[Any, TrainerState | None]:
    """Model and state of a checkpoint that is training's last, else (None, None).

    The Trainer, resumed there, would take one more step.
    """
    if checkpoint is None:
        return None, None
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return None, None
    log.info(f"all {state.max_steps:,} steps were done by an earlier attempt; taking its last checkpoint")
    return load_model(checkpoint), state


def _trainer(
    inputs: dict[str, str], settings: dict[str, Any], seed: int, running: dict[str, Any], checkpoints: Path
) -> Trainer:
    tokenizer = load_tokenizer(inputs["model"])
    transformers.set_seed(seed)  # before the model: its new head is drawn at random
    model = load_model(inputs["model"], settings["overrides"])
    windows = _columns(inputs["windows"], model)
    validation = _columns(inputs["validation"], model) if "validation" in inputs else None
    arguments = training_arguments(settings, seed, running, checkpoints, validation is not None)
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=Padder.of(tokenizer, settings),
        train_dataset=windows,
        eval_dataset=validation,
        callbacks=[Watch(len(windows)), MarkComplete()],
    )
    trainer.remove_callback(PrinterCallback)  # Watch prints
    log.info(f"training on {len(windows):,} windows on {arguments.device}, {settings['precision']}, seed {seed}")
    return trainer


def _columns(path: str, model: Any) -> Any:
    windows = load_windows(path)
    return windows.select_columns([name for name in inputs_of(model, MODEL_COLUMNS) if name in windows.column_names])


def _usual_rate(history: list[dict[str, Any]]) -> float | None:
    """Median of the logged samples/s, over all attempts; None where nothing was logged."""
    rates = [row["samples_per_second"] for row in history if "samples_per_second" in row]
    return statistics.median(rates) if rates else None


def _write_history(path: str | Path, history: list[dict[str, Any]]) -> None:
    """Write the Trainer's log as training.csv: a row per logged step and per validation."""
    with written_aside(path) as aside, open(aside, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, CSV_COLUMNS.values())
        writer.writeheader()
        for row in history:
            if "loss" in row or "eval_loss" in row:
                writer.writerow({ours: row[theirs] for theirs, ours in CSV_COLUMNS.items() if theirs in row})
