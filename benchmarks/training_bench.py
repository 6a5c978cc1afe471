"""Training and prediction: the public recipes on the Hugging Face Trainer, and the workflow's own stages."""

import csv
import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)
from transformers.utils import logging as transformers_logging

import data
from measure import Stage
from qa.common.files import read_json
from qa.data import prepare_questions
from qa.model import predict as inference
from qa.model.loading import load_model, save_model
from qa.training import train as training
from qa.training.spec import Identity, RuntimeOptions, TrainingInputs, TrainingOutputs, TrainingSettings, TrainingSpec
from qa.windows.read_windows import arrow_table
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

transformers_logging.disable_progress_bar()

WIDTH = 384  # tokens that the recipes pad every row to
WINDOWS = {
    "max_length": WIDTH,
    "overlap": 128,
    "max_question_length": 64,
    "long_contexts": "windows",
    "labels": "exact",
}
FEWER = (200, 2_000)  # contexts and questions that the CPU trains on
PREDICTED, PREDICTED_BATCH = 600, 64  # windows
SEED = 1
TOKEN_COLUMNS = ("input_ids", "token_type_ids")
OPTIMIZER = {"learning_rate": 2e-5, "weight_decay": 0.01}


@dataclass(frozen=True)
class Recipe:
    """How a public recipe computes: rows padded to `width` tokens, or to the longest of a batch; mixed bf16 or fp32."""

    batch: int
    bf16: bool = False
    width: int | None = WIDTH


WALKTHROUGH = Recipe(batch=16)
WALKTHROUGH_PREDICTING = Recipe(batch=8)  # the Trainer's default, which it leaves alone
RUN_QA = Recipe(batch=16, bf16=True, width=None)  # with --bf16 and --pad_to_max_length False


class Clock(TrainerCallback):
    """Notes the time after `warm` steps and after the last."""

    def __init__(self, warm: int):
        self.warm, self.times = warm, {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer after each optimizer step."""
        if state.global_step in (self.warm, state.max_steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times[state.global_step] = time.perf_counter()


class Rows(torch.utils.data.Dataset):
    """Windows as the recipes have them after `map`: a dictionary a row, padded where the recipe pads beforehand."""

    def __init__(self, windows: Any, tokenizer: Any, width: int | None, labelled: bool):
        names = [name for name in TOKEN_COLUMNS if name in windows.column_names]
        labels = ["start_positions", "end_positions"] if labelled else []
        padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": 0}
        self.rows = []
        for row in windows.select_columns(names + labels):
            row["attention_mask"] = [1] * len(row["input_ids"])
            for name in (*names, "attention_mask"):
                row[name] += [padding.get(name, 0)] * ((width or 0) - len(row[name]))
            self.rows.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.rows[number]


def recipe_trainer(model_folder: str, windows: Any, recipe: Recipe, steps: int, folder: str, labelled: bool) -> Trainer:
    """The Trainer as a recipe sets it up."""
    set_seed(SEED)
    tokenizer = load_tokenizer(model_folder)
    trainer = Trainer(
        model=AutoModelForQuestionAnswering.from_pretrained(model_folder, dtype=torch.float32),
        args=TrainingArguments(
            folder,
            per_device_train_batch_size=recipe.batch,
            per_device_eval_batch_size=recipe.batch,
            max_steps=steps,
            bf16=recipe.bf16,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            **OPTIMIZER,
        ),
        train_dataset=Rows(windows, tokenizer, recipe.width, labelled),
        data_collator=default_data_collator
        if recipe.width
        else DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def recipe_training(model_folder: str, windows: Any, recipe: Recipe, steps: int, warm: int) -> float:
    """Samples/s of a recipe's training after its first `warm` steps."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = recipe_trainer(model_folder, windows, recipe, steps, folder, labelled=True)
        clock = Clock(warm)
        trainer.add_callback(clock)
        trainer.train()
    return recipe.batch * (steps - warm) / (clock.times[steps] - clock.times[warm])


def recipe_prediction(model_folder: str, windows: Any, recipe: Recipe) -> float:
    """Windows/s of a recipe's prediction, the model loaded before: all logits, on the host."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = recipe_trainer(model_folder, windows, recipe, 1, folder, labelled=False)
        rows = trainer.train_dataset
        trainer.predict(torch.utils.data.Subset(rows, range(min(len(rows), recipe.batch))))
        before = time.perf_counter()
        found = trainer.predict(rows)
        taken = time.perf_counter() - before
        assert len(found.predictions[0]) == len(rows)
    return len(rows) / taken


@dataclass(frozen=True)
class Own:
    """How the workflow's stages compute here."""

    batch: int = 16
    precision: str = "bf16"
    padding: str = "packed"
    compile: str = "kernels"
    deterministic: bool = False


def own_training(model_folder: str, windows_folder: str, own: Own, steps: int, every: int, warm: int) -> dict[str, Any]:
    """The stage `train` as the workflow calls it: samples/s after `warm` steps by its own history, and how it computed.

    `every` so many steps it logs, as `checkpoints.log_every_steps`; `warm` is a multiple of it.
    """
    settings = TrainingSettings(
        max_steps=steps,
        batch_size=own.batch,
        accumulation_steps=1,
        attention_dropout=0.0,
        keep_epoch="last",
        schedule="linear",
        warmup=0,
        max_gradient_norm=1.0,
        precision=own.precision,
        padding=own.padding,
        overrides={},
        deterministic=own.deterministic,
        **OPTIMIZER,
    )
    options = RuntimeOptions(
        every_steps=steps + 1,
        keep=1,
        keep_after_success=False,
        log_every_steps=every,
        report_to=[],
        threads=torch.get_num_threads(),
        gpus=1,
        nodes=1,
        compile=own.compile,
        gradient_checkpointing=False,
        walltime_minutes=None,
    )
    with tempfile.TemporaryDirectory() as folder:
        outputs = TrainingOutputs(*(f"{folder}/{name}" for name in ("model", "history", "manifest", "checkpoints")))
        inputs = TrainingInputs.of({"model": model_folder, "windows": [windows_folder]})
        identity = Identity("benchmark", f"seed-{SEED}", "benchmark", {})
        training.train(TrainingSpec(inputs, settings, SEED, options), outputs, identity)
        with open(outputs.history, newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if int(row["step"]) > warm]
        manifest = read_json(outputs.manifest)
    rate = statistics.harmonic_mean([float(row["samples_per_second"]) for row in rows])
    return {"samples_per_second": rate, "computed": manifest["attempts"][-1]["computed"]}


def own_rate(model_folder: str, windows_folder: str, own: Own, steps: int, every: int, warm: int) -> float:
    """Samples/s of `own_training`."""
    return own_training(model_folder, windows_folder, own, steps, every, warm)["samples_per_second"]


def own_prediction(model_folder: str, windows_folder: str, own: Own) -> float:
    """Windows/s of the stage `predict`, the model and the windows loaded before, as `recipe_prediction` has them."""
    settings = {"batch_size": own.batch, "candidates": 20, "precision": own.precision, "padding": own.padding}
    with tempfile.TemporaryDirectory() as folder:
        save_model(load_model(model_folder), model_folder, folder)  # a pretrained model has no head, and is refused
        predictor = inference.Predictor(folder, settings, torch.get_num_threads())
    table = arrow_table(windows_folder)
    predictor.spans(table.slice(0, own.batch))
    before = time.perf_counter()
    predictor.spans(table)
    return len(table) / (time.perf_counter() - before)


def flop_of_forward(config: Any, lengths: np.ndarray) -> float:
    """Floating point operations of the encoder's matrix products for windows of `lengths` tokens, a forward pass.

    Two for each weight and token, and four times length times width for each token's attention. Embeddings, norms and
    the head are left out. A training step takes three times as many.
    """
    width = config.hidden_size
    layer = 2 * (4 * width**2 + 2 * width * config.intermediate_size)
    lengths = lengths.astype(np.float64)
    return config.num_hidden_layers * float((lengths * layer + 4 * lengths**2 * width).sum())


def matmul_rate(device: torch.device, size: int, dtype: torch.dtype = torch.bfloat16) -> float:
    """FLOP/s of square matrix products of `size` in `dtype`, the best of several tries."""
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        if device.type == "cuda":
            torch.cuda.synchronize()
        before = time.perf_counter()
        for _ in range(5):
            one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - before) / 5)
    return 2 * size**3 / best


def products_rate(config: Any, tokens: int, training: bool) -> float:
    """FLOP/s of a layer's bf16 products for `tokens` tokens, those of gradients too in `training`; the best try counts.

    A large square product is no floor for a narrow model: its own products cannot reach that rate.
    """
    width, inner = config.hidden_size, config.intermediate_size
    made = {size: torch.randn(2, tokens, size, dtype=torch.bfloat16) for size in (width, inner)}
    shapes = (*4 * [(width, width)], (inner, width), (width, inner))
    weights = [torch.randn(shape, dtype=torch.bfloat16) for shape in shapes]
    best = float("inf")
    for _ in range(12):
        before = time.perf_counter()
        for weight in weights:
            (after, outputs), (gradients, inputs) = (made[size] for size in weight.shape)
            torch.mm(inputs, weight.T, out=after)
            if training:
                torch.mm(outputs, weight, out=gradients)
                outputs.T @ inputs
        best = min(best, time.perf_counter() - before)
    return (3 if training else 1) * 2 * tokens * sum(weight.numel() for weight in weights) / best


def by_turns(contestants: dict[str, tuple[Any, ...]], rounds: int) -> dict[str, float]:
    """Median of each contestant's rates over rounds in which each has its turn; each is a function and its arguments.

    A turn has a process of its own, whose threads wait as torch lets them: for all contestants, as in a job of SLURM.
    """
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (work, *arguments) in contestants.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                rates[name].append(pool.submit(work, *arguments).result())
    return {name: statistics.median(values) for name, values in rates.items()}


def windows_of(folder: Path, model_folder: str, contexts: int, questions: int) -> str:
    """Windows of SQuAD's lengths as the stage `tokenize_and_label` writes them."""
    file = folder / "questions.json"
    file.write_text(json.dumps(data.squad_like(contexts, questions)), encoding="utf-8")
    prepare_questions.convert([str(file)], str(folder / "records.parquet"))
    tokenize(folder / "records.parquet", load_tokenizer(model_folder), WINDOWS, folder / "windows")
    return str(folder / "windows")


def stages(model_folder: str, rounds: int = 2) -> list[Stage]:
    """Training and prediction on the CPU."""
    config = AutoModelForQuestionAnswering.from_pretrained(model_folder).config
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        windows = windows_of(folder, model_folder, *FEWER)
        few, few_folder = datasets.load_from_disk(windows).shuffle(seed=0).select(range(PREDICTED)), str(folder / "few")
        few.flatten_indices().save_to_disk(few_folder)
        lengths = np.array([len(ids) for ids in few["input_ids"]])
        least = few.select(range(64))
        train = by_turns(
            {
                "walkthrough": (recipe_training, model_folder, least, WALKTHROUGH, 3, 1),
                "run_qa": (recipe_training, model_folder, few, RUN_QA, 8, 2),
                "ours": (own_rate, model_folder, few_folder, Own(), 24, 4, 8),
            },
            rounds,
        )
        predict = by_turns(
            {
                "walkthrough": (recipe_prediction, model_folder, least, WALKTHROUGH_PREDICTING),
                "run_qa": (recipe_prediction, model_folder, few, RUN_QA),
                "ours": (own_prediction, model_folder, few_folder, Own(batch=PREDICTED_BATCH)),
            },
            rounds,
        )
    forward = flop_of_forward(config, lengths) / len(lengths)
    floor = "the matrix products of the real tokens, at the rate of this model's own bf16 products on a batch's tokens"
    shape = (
        f"{config.num_hidden_layers} layers of {config.hidden_size}, rows of {lengths.mean():.0f} tokens in the mean"
    )
    options = {"how": floor, "higher_is_better": True}
    floors = {
        batch: products_rate(config, round(batch * lengths.mean()), training) / ((3 if training else 1) * forward)
        for batch, training in ((Own.batch, True), (PREDICTED_BATCH, False))
    }
    return [
        Stage("train", f"{shape}, batches of 16", "samples/s", **train, floor=floors[Own.batch], **options),
        Stage("predict", shape, "windows/s", **predict, floor=floors[PREDICTED_BATCH], **options),
    ]
