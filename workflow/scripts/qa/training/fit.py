"""One process's part of a training: the Trainer with its model, data, collator and callbacks."""

import importlib
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import transformers
from transformers import PrinterCallback, TrainingArguments

from qa.common.errors import InputError
from qa.fused import step
from qa.jobs.interruption import Walltime
from qa.model import cpu_layers, devices, disentangled, packing
from qa.model.collators import PackingCollator, PaddingCollator
from qa.model.loading import inputs_of, load_model, with_attention_dropout
from qa.model.window_dataset import POSITIONS, WindowDataset, read_targets
from qa.training import lora, manifest
from qa.training.batch_sampler import EpochBatchSampler
from qa.training.callbacks import CheckpointCallback, ProgressCallback, SetEpochCallback
from qa.training.checkpoints import step_of
from qa.training.drawn_questions import windows_of_drawn
from qa.training.spec import Attempt, TrainingSpec
from qa.training.trainer import WindowTrainer
from qa.windows.read_windows import arrow_table
from qa.windows.tokenizer import load_tokenizer

MODEL_COLUMNS = ["input_ids", "token_type_ids", *POSITIONS]
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
FUSED = "trained by fused kernels, attention too, both passes in one CUDA graph"
Collator = PackingCollator | PaddingCollator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The windows to train on, the order of their batches, and the windows to validate on."""

    windows: WindowDataset
    batches: EpochBatchSampler
    validation: WindowDataset | None


def fit(attempt: Attempt) -> WindowTrainer:
    """Train in this process, alone or as one of several that torchrun started. Returns the Trainer after its last step.

    Raises what `train` raises.
    """
    spec = attempt.spec
    devices.device()
    devices.check_precision(spec.settings.precision)
    devices.prepare_cpu(spec.options.threads // spec.options.gpus)
    with devices.repeatable(spec.settings.deterministic):
        trainer = build_trainer(attempt)
        if attempt.resume:
            trainer.load_unlogged(attempt.resume)
        trainer.train(resume_from_checkpoint=str(attempt.resume) if attempt.resume else None)
    return trainer


def build_trainer(attempt: Attempt) -> WindowTrainer:
    """The Trainer with all that it needs, before its first step."""
    spec, settings = attempt.spec, attempt.spec.settings
    transformers.set_seed(spec.seed)  # before the model: its new head is drawn at random
    model = load_model(
        spec.inputs.model,
        with_attention_dropout(spec.inputs.model, settings.overrides, settings.attention_dropout),
    )
    if settings.lora_rank:
        lora.add_adapters(model, settings.lora_rank, settings.lora_alpha)
    if spec.options.gradient_checkpointing:
        _checkpoint_gradients(model)
    arguments = training_arguments(spec, attempt.memory.checkpoints)
    data = _data(spec, model, arguments)
    tokenizer, width = load_tokenizer(spec.inputs.model), settings.max_length
    collator, computed = packing.collator(
        model, tokenizer, settings.padding, width, arguments.device, settings.precision
    )
    if arguments.device.type == "cpu" and isinstance(collator, PackingCollator):
        cpu_layers.replace_dropout(model)
    check = None
    if spec.inputs.held_out_windows:  # its collator has no fixed shapes: they are made for training's batches
        held_out = spec.inputs.held_out_windows, spec.inputs.held_out_records
        once = spec.inputs.validation == spec.inputs.held_out_windows and settings.padding != "max_length"
        check = epochs_module().Check(*held_out, collator, arguments.device, with_loss=once, f1_by=settings.f1_by)
    in_graph = False
    if arguments.device.type == "cuda":
        collator, compilation, in_graph = _for_gpu(spec, model, collator, data, arguments)
        computed += f", {compilation}"
    trainer = WindowTrainer(
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=data.windows,
        eval_dataset=data.validation,
        batches=data.batches,
        padding_counts=settings.padding == "max_length",
        distillation=settings.distillation,
        check=check,
        in_graph=in_graph,
    )
    _add_callbacks(trainer, attempt)
    where = f"{arguments.device}, processes: {arguments.world_size}"
    log.info(
        f"training on {len(data.windows):,} windows on {where}, {settings.precision}, {computed}, seed {spec.seed}"
    )
    if arguments.process_index == 0:
        device = manifest.device(spec.options.processes)
        attempt.memory.note(step_of(attempt.resume) if attempt.resume else 0, computed=computed, device=device)
    return trainer


def _checkpoint_gradients(model: Any) -> None:
    """Let a model compute its activations again in the backward pass. Raises InputError for one that cannot."""
    if not model.supports_gradient_checkpointing:
        raise InputError(f"training.gradient_checkpointing: {type(model).__name__} cannot do this; set it to false")
    # transformers 5.23 has the first, 5.5 only the second
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def training_arguments(spec: TrainingSpec, folder: Path) -> TrainingArguments:
    """The Trainer's arguments for a training whose checkpoints go to `folder`."""
    settings, options = spec.settings, spec.options
    part = settings.batch_size // settings.accumulation_steps // options.processes
    return TrainingArguments(
        output_dir=str(folder),
        seed=spec.seed,
        per_device_train_batch_size=part,
        per_device_eval_batch_size=part,
        gradient_accumulation_steps=settings.accumulation_steps,
        num_train_epochs=settings.epochs or 1,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_gradient_norm,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        tf32=settings.precision == "tf32",
        use_cpu=not torch.cuda.is_available(),
        ddp_backend=None if options.processes == 1 or torch.cuda.is_available() else "gloo",
        ddp_find_unused_parameters=False,
        eval_strategy="epoch" if spec.inputs.validation else "no",
        prediction_loss_only=True,
        logging_steps=options.log_every_steps,
        logging_nan_inf_filter=False,
        save_steps=options.every_steps,
        report_to=options.report_to or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=list(POSITIONS),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _data(spec: TrainingSpec, model: Any, arguments: TrainingArguments) -> Data:
    windows = _windows(spec.inputs.windows, model, spec.inputs.targets, spec.seed, spec.settings.questions)
    batches = EpochBatchSampler(
        windows.lengths,
        spec.settings.batch_size,
        spec.seed,
        parts=spec.settings.accumulation_steps,
        even=spec.settings.padding != "max_length",
        rank=arguments.process_index,
        processes=arguments.world_size,
    )
    return Data(windows, batches, _windows(spec.inputs.validation, model) if spec.inputs.validation else None)


def _windows(
    folders: list[str],
    model: Any,
    targets: list[str] | None = None,
    seed: int | None = None,
    questions: int | None = None,
) -> WindowDataset:
    """The windows of some folders, one folder after the other, with their soft targets if there are any.

    `seed` and `questions` are for training, where labels may take turns, and some of the questions may do.
    """
    table = pa.concat_tables([arrow_table(folder) for folder in folders])
    columns = [name for name in inputs_of(model, MODEL_COLUMNS) if name in table.column_names]
    soft_targets = read_targets(targets, table.num_rows) if targets else {}
    if questions is not None:
        drawn = windows_of_drawn(folders, questions, seed)
        table = table.take(drawn)
        soft_targets = {name: values[drawn] for name, values in soft_targets.items()}
    return WindowDataset(table, columns, soft_targets, seed)


def epochs_module() -> Any:
    """The module `epochs`, imported by name: it only measures, so it is no part of this code's digest.

    Where the best epoch is kept, the rule adds its digest (rule_inputs.measuring).
    """
    return importlib.import_module("qa.training.epochs")


def _for_gpu(
    spec: TrainingSpec, model: Any, collator: Collator, data: Data, arguments: TrainingArguments
) -> tuple[Collator, str, bool]:
    """Give the collator few shapes, and compile the model or let it train by the fused kernels.

    Returns the collator, how the model trains, in words, and whether each step is one CUDA graph.
    """
    if isinstance(collator, PackingCollator):
        collator = _in_fixed_shapes(collator, data, arguments)
    elif _compiles_padded(spec, model) and collator.width is None:
        longest = max(int(part.lengths.max()) for part in (data.windows, data.validation) if part is not None)
        collator = replace(collator, widths=packing.widths(longest))
    if spec.settings.deterministic:  # not compiled: torch times its kernels and takes the fastest
        return collator, f"{_compile(model, 'none', collator, arguments)}, deterministic", False
    mode = spec.options.compile
    if mode == "graphs" and (spec.options.gradient_checkpointing or spec.settings.lora_rank):
        mode = "kernels"  # graphs were tried neither with layers that are computed again nor with adapters
    alone = arguments.gradient_accumulation_steps == arguments.world_size == 1  # else gradients live on
    if mode == "graphs" and alone and spec.settings.precision == "bf16" and isinstance(collator, PackingCollator):
        fault = step.prepare(model)
        if not fault:
            return collator, FUSED, True
        log.info(f"no fused kernels, the model is compiled instead: {fault}")
    return collator, _compile(model, mode, collator, arguments), False


def _compiles_padded(spec: TrainingSpec, model: Any) -> bool:
    """Whether padded rows are worth few widths: DeBERTa is one graph; other encoders that pad were not compiled yet."""
    wanted = spec.options.compile != "none" and not spec.settings.deterministic
    return wanted and model.config.model_type in ("deberta", "deberta-v2")


def _in_fixed_shapes(packer: PackingCollator, data: Data, arguments: TrainingArguments) -> PackingCollator:
    """The packer with a size of row that holds every batch of training, and a larger one if validation needs it."""
    part, longest = arguments.per_device_train_batch_size, int(data.windows.lengths.max())
    largest = 0
    if data.validation is not None:
        lengths = data.validation.lengths
        largest = max(int(lengths[first : first + part].sum()) for first in range(0, len(lengths), part))
        longest = max(longest, int(lengths.max()))
    epochs = math.ceil(arguments.num_train_epochs)
    if arguments.max_steps > 0:
        epochs = math.ceil(arguments.max_steps * arguments.gradient_accumulation_steps / len(data.batches))
    sizes = packing.budgets(int(data.batches.totals(epochs).max()), largest)
    return replace(packer, budgets=sizes, windows=part, width=longest)


def _compile(model: Any, mode: str, collator: Collator, arguments: TrainingArguments) -> str:
    """Compile the model in place, the names of its weights untouched, if this machine can. Returns what was done.

    `mode` is none, kernels or graphs.
    """
    if isinstance(collator, PaddingCollator) and not collator.widths:
        if collator.width is None:
            return "not compiled, since rows have many widths"  # each would be compiled anew
        return "not compiled"  # as in the walkthrough
    if mode == "none" or disentangled.is_packed(model) or not devices.can_compile():
        return "not compiled"
    # graphs would overwrite gradients that live on, or that processes share
    graphs = mode == "graphs" and arguments.gradient_accumulation_steps == arguments.world_size == 1
    torch._dynamo.config.recompile_limit = 32  # widths, each with a last batch, in training and validation
    model.compile(dynamic=False, mode="reduce-overhead" if graphs else None)
    return f"compiled{', in CUDA graphs' if graphs else ''}"


def _add_callbacks(trainer: WindowTrainer, attempt: Attempt) -> None:
    """Add the callbacks in the order of their calls: the one that saves and stops comes last."""
    options = attempt.spec.options
    trainer.add_callback(SetEpochCallback(trainer.batches, trainer.train_dataset))
    trainer.add_callback(ProgressCallback(len(trainer.train_dataset)))
    if attempt.spec.settings.keep_epoch == "best":
        trainer.add_callback(epochs_module().KeepBest(attempt.spec.settings.early_stopping))
    walltime = Walltime(options.walltime_minutes)
    trainer.add_callback(CheckpointCallback(trainer, attempt.memory, options.keep, attempt.requests, walltime))
    trainer.remove_callback(PrinterCallback)  # ProgressCallback prints
