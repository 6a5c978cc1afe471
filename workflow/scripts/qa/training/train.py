"""Fine-tuning with the Hugging Face Trainer: same inputs, same weights; resumed where it stopped."""

import csv
import importlib
import logging
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import transformers
from transformers import PrinterCallback, Trainer, TrainerState, TrainingArguments

from qa.common import checksums
from qa.common.errors import InputError, Interrupted
from qa.common.files import write_json, written_aside
from qa.jobs.interruption import Requests, Walltime, requests_noted
from qa.model import devices, packing
from qa.model.collators import PackingCollator, PaddingCollator
from qa.model.loading import inputs_of, load_model, save_model, with_attention_dropout
from qa.model.window_dataset import POSITIONS, WindowDataset, read_targets
from qa.training import distributed, manifest
from qa.training.batch_sampler import EpochBatchSampler
from qa.training.callbacks import CheckpointCallback, ProgressCallback, SetEpochCallback
from qa.training.checkpoints import TrainingMemory, seconds_of, step_of
from qa.training.trainer import WindowTrainer
from qa.windows.read_windows import arrow_table
from qa.windows.tokenizer import load_tokenizer

MODEL_COLUMNS = ["input_ids", "token_type_ids", *POSITIONS]
CSV_COLUMNS = {
    "step": "step",
    "epoch": "epoch",
    "loss": "loss",
    "eval_loss": "validation_loss",
    "eval_calibration_exact": "calibration_exact",
    "eval_calibration_f1": "calibration_f1",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "samples_per_second": "samples_per_second",
}
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A training to be done by one process: what `train` was given, its memory, and where and how far it goes.

    `resume` is the checkpoint to go on from, None for the start; `requests` the signals that ask for an end.
    """

    inputs: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    running: dict[str, Any]
    memory: TrainingMemory
    resume: Path | None
    requests: Requests


def training_arguments(
    settings: dict[str, Any], seed: int, running: dict[str, Any], folder: Path, validate: bool
) -> TrainingArguments:
    """The Trainer's arguments for a run's settings; `running` holds the settings that change no result."""
    precision = settings["precision"]
    processes = running["gpus"] * running["nodes"]
    part = settings["batch_size"] // settings["accumulation_steps"] // processes
    return TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        per_device_train_batch_size=part,
        per_device_eval_batch_size=part,
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
        ddp_backend=None if processes == 1 or torch.cuda.is_available() else "gloo",
        ddp_find_unused_parameters=False,
        eval_strategy="epoch" if validate else "no",
        prediction_loss_only=True,
        logging_steps=running["log_every_steps"],
        logging_nan_inf_filter=False,
        save_steps=running["every_steps"],
        report_to=running["report_to"] or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=list(POSITIONS),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def train(
    inputs: dict[str, Any],
    settings: dict[str, Any],
    seed: int,
    running: dict[str, Any],
    outputs: dict[str, str],
    identity: dict[str, Any],
    describe: Callable[[str, dict[str, Any]], None] | None = None,
) -> None:
    """Fine-tune a model and write its folder, the history of its training and its manifest.

    `inputs` are the folder `model`, the folders `windows` to train on and, where a loss is wanted after each epoch, the
    folders `validation`; the folders `held_out_windows` and the files `held_out_records` where EM and F1 are; with a
    teacher, the files `targets`, one for each folder of windows; `settings` what determines the result; `running` the
    checkpoint and logging intervals, the numbers of CPU `threads`, `gpus` and `nodes`, and the job's
    `walltime_minutes`; `outputs` the folders `model` and `checkpoints` and the files `history` and `manifest`;
    `identity` more for the manifest, with the digest `code` that the checkpoints' fingerprint needs; `describe` is
    given the model's folder and what the manifest will say, to add to the folder. On a CPU, a training that was killed
    and resumed ends with the same bytes as one that was not.

    Raises Interrupted when it stopped and saved before the end of its walltime, or on SIGTERM or SIGUSR1; InputError
    for a model that cannot be loaded, a precision or number of GPUs that this machine lacks, a full disk, or while
    another job is at work on the same training.
    """
    started = datetime.now(UTC)
    fingerprint_inputs = {
        "settings": settings,
        "seed": seed,
        "inputs": manifest.input_hashes(inputs),
        "code": identity["code"],
        "versions": manifest.versions(),
        "processes": running["gpus"] * running["nodes"],
    }
    memory = TrainingMemory(outputs["checkpoints"], fingerprint_inputs)
    files = {"model": outputs["model"], "training.csv": outputs["history"], "manifest.json": outputs["manifest"]}
    with requests_noted() as requests:
        resume = memory.begin()
        if memory.take_result(files):
            memory.keep_result(files, checkpoints=running["keep_after_success"])
            return
        model, state, used = _attempted(Task(inputs, settings, seed, running, memory, resume, requests))
    memory.note(state.global_step, "completed")
    _write_history(outputs["history"], state.log_history)
    save_model(model, inputs["model"], outputs["model"])
    made: dict[str, Any] = {
        **identity,
        **{key: fingerprint_inputs[key] for key in ("seed", "settings", "inputs", "versions")},
        "gpus": fingerprint_inputs["processes"],
        "started": started.isoformat(timespec="seconds"),
        "training_windows": sum(len(arrow_table(folder)) for folder in inputs["windows"]),
        **used,
    }
    if describe:
        describe(outputs["model"], made)
    write_json(outputs["manifest"], _manifest(made, state, memory))
    log.info(f"trained in {memory.summary()}")
    memory.keep_result(files, checkpoints=running["keep_after_success"])


def _manifest(made: dict[str, Any], state: TrainerState, memory: TrainingMemory) -> dict[str, Any]:
    """What is known of a training beforehand, and what its machine, its end and its attempts add."""
    return {
        **manifest.code_state(),
        **made,
        "machine": manifest.machine(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": state.global_step,
        "samples_per_second": _usual_rate(state.log_history),
        "attempts": memory.attempts(),
        "attempts_seconds": round(seconds_of(memory.attempts())),
    }


def _attempted(task: Task) -> tuple[Any, TrainerState, dict[str, float]]:
    """`_trained`, with a failure noted among the attempts; an interruption has noted itself."""
    try:
        return _trained(task)
    except Exception as error:
        if not isinstance(error, Interrupted):
            task.memory.note(task.memory.attempts()[-1]["step"], "failed")
        raise


def _trained(task: Task) -> tuple[Any, TrainerState, dict[str, float]]:
    """The fine-tuned model, the Trainer's state and the peak memory, from here or from processes of their own."""
    model, state = finished(task.resume)
    if model is not None:
        return _kept(model, state, task), state, manifest.peak_memory()
    if task.running["gpus"] * task.running["nodes"] == 1:
        trainer = fit(task)
        return _kept(trainer.model, trainer.state, task), trainer.state, manifest.peak_memory()
    work = {"inputs": task.inputs, "settings": task.settings, "seed": task.seed, "running": task.running}
    used = distributed.launch(work, task.memory, task.resume, task.requests)
    model, state = finished(task.memory.newest_whole())
    if model is None:
        raise RuntimeError(f"{task.memory.checkpoints}: all processes ended well, but the last checkpoint is not there")
    return _kept(model, state, task), state, used


def _kept(model: Any, state: TrainerState, task: Task) -> Any:
    """The model after the last epoch, or after the best one where that is to be kept."""
    if task.settings["keep_epoch"] == "last":
        return model
    step = _measuring().best_step(state.log_history)
    log.info(f"the best epoch on held-out questions ended at step {step:,} of {state.global_step:,}; it is kept")
    best = task.memory.checkpoints / f"best-{step}"
    if fault := "it has gone" if not best.exists() else checksums.fault_of(best):
        raise InputError(f"{best}: {fault}; to train anew: rm -r {task.memory.checkpoints} and run again")
    return load_model(best)


def _measuring() -> Any:
    """The module `epochs`, by name: what only measures is no part of this code's digest, so that it retrains nothing.

    Where the best epoch is kept, the rule adds its digest (needs.measuring).
    """
    return importlib.import_module("qa.training.epochs")


def fit(task: Task) -> Trainer:
    """Train in this process, alone or as one of several that torchrun started, from a checkpoint or from the start.

    Returns the Trainer after the last step. For the arguments and what is raised see `train`.
    """
    devices.device()
    devices.check_precision(task.settings["precision"])
    devices.set_threads(task.running["threads"] // task.running["gpus"])
    with devices.repeatable(task.settings.get("deterministic", False)):
        trainer = _trainer(task)
        if task.resume:
            trainer.load_unlogged(task.resume)
        trainer.train(resume_from_checkpoint=str(task.resume) if task.resume else None)
    return trainer


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


def _trainer(task: Task) -> WindowTrainer:
    inputs, settings, seed, running = task.inputs, task.settings, task.seed, task.running
    transformers.set_seed(seed)  # before the model: its new head is drawn at random
    model = load_model(
        inputs["model"],
        with_attention_dropout(inputs["model"], settings["overrides"], settings["attention_dropout"]),
    )
    windows = _windows(inputs["windows"], model, inputs.get("targets"))
    validation = _windows(inputs["validation"], model) if "validation" in inputs else None
    arguments = training_arguments(settings, seed, running, task.memory.checkpoints, validation is not None)
    batches = EpochBatchSampler(
        windows.lengths,
        settings["batch_size"],
        seed,
        settings["accumulation_steps"],
        settings["padding"] != "max_length",
        arguments.process_index,
        arguments.world_size,
    )
    collator, rows = packing.collator(model, load_tokenizer(inputs["model"]), settings)
    how = f"{rows}, {packing.attention_of(model, arguments.device, settings['precision'])}"
    check = None
    if "held_out_windows" in inputs:
        check = _measuring().Check(inputs["held_out_windows"], inputs["held_out_records"], collator, arguments.device)
    if arguments.device.type == "cuda":
        if isinstance(collator, PackingCollator):
            collator = _in_fixed_shapes(collator, batches, validation, arguments)
        deterministic = settings.get("deterministic", False)
        wanted = "none" if deterministic else running["compile"]  # torch measures which of its kernels is fastest
        how += f", {_compiled(model, wanted, collator, arguments)}{', deterministic' if deterministic else ''}"
    trainer = WindowTrainer(
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=windows,
        eval_dataset=validation,
        batches=batches,
        padding_counts=settings["padding"] == "max_length",
        distillation=settings.get("distillation"),
        check=check,
    )
    limit = Walltime(running["walltime_minutes"])
    saving = CheckpointCallback(trainer, task.memory, running["keep"], task.requests, limit)
    keeping = [_measuring().KeepBest()] if settings["keep_epoch"] == "best" else []
    for callback in (SetEpochCallback(batches), ProgressCallback(len(windows)), *keeping, saving):
        trainer.add_callback(callback)
    trainer.remove_callback(PrinterCallback)  # Watch prints
    where = f"{arguments.device}, processes: {arguments.world_size}"
    log.info(f"training on {len(windows):,} windows on {where}, {settings['precision']}, {how}, seed {seed}")
    if arguments.process_index == 0:
        task.memory.note(step_of(task.resume) if task.resume else 0, computed=how)
    return trainer


def _in_fixed_shapes(
    packer: PackingCollator, batches: EpochBatchSampler, validation: WindowDataset | None, arguments: TrainingArguments
) -> PackingCollator:
    """The packer for rows of one size that holds every batch of training, and of another if validation needs it."""
    part, longest = arguments.per_device_train_batch_size, int(batches.lengths.max())
    largest = 0
    if validation is not None:
        largest = max(int(validation.lengths[i : i + part].sum()) for i in range(0, len(validation), part))
        longest = max(longest, int(validation.lengths.max()))
    epochs = math.ceil(arguments.num_train_epochs)
    if arguments.max_steps > 0:
        epochs = math.ceil(arguments.max_steps * arguments.gradient_accumulation_steps / len(batches))
    sizes = packing.budgets(int(batches.totals(epochs).max()), largest)
    return replace(packer, budgets=sizes, windows=part, width=longest)


def _compiled(
    model: Any, wanted: str, collator: PackingCollator | PaddingCollator, arguments: TrainingArguments
) -> str:
    """Have torch compile the model in place, its weights' names untouched, if this machine can; tells what was done."""
    if isinstance(collator, PaddingCollator) and collator.width is None:
        return "not compiled, since rows have many widths"  # each would be compiled anew
    if wanted == "none" or not devices.can_compile():
        return "not compiled"
    # gradients that live on, or that processes share, would be overwritten
    graphs = wanted == "graphs" and arguments.gradient_accumulation_steps == arguments.world_size == 1
    model.compile(dynamic=False, mode="reduce-overhead" if graphs else None)
    return "compiled, in CUDA graphs" if graphs else "compiled"


def _windows(folders: list[str], model: Any, targets: list[str] | None = None) -> WindowDataset:
    """The windows of some folders, one after the other, with their soft targets if there are any."""
    table = pa.concat_tables([arrow_table(folder) for folder in folders])
    columns = [name for name in inputs_of(model, MODEL_COLUMNS) if name in table.column_names]
    return WindowDataset(table, columns, read_targets(targets, table.num_rows) if targets else None)


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
