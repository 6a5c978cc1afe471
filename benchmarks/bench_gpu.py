"""Training and prediction on one CUDA GPU: `make bench-gpu`. RoBERTa-base's shape with random weights, no download."""

import argparse
import gc
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    DebertaV2Config,
    DebertaV2ForQuestionAnswering,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForQuestionAnswering,
    set_seed,
)

import data
import speed_tables
from measure import Stage, machine
from qa.model import devices
from training_bench import (
    RUN_QA,
    WALKTHROUGH,
    WALKTHROUGH_PREDICTING,
    Own,
    Recipe,
    flop_of_forward,
    matmul_rate,
    own_prediction,
    own_training,
    recipe_prediction,
    recipe_training,
    windows_of,
)

BATCHES = (16, 48, 96, 256)
TARGET_BATCH = 96  # windows
RUN_QA_STYLE = Recipe(batch=48, bf16=True)  # as it is mostly run: bf16, every row padded to 384
VOCABULARY = 2_700  # of the tokenizer: so many make rows of 181 tokens in the mean, as SQuAD 2.0's are
BASE = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
DEBERTA = {"position_buckets": 256, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "norm_rel_ebd": "layer_norm"}
DEBERTA |= {"relative_attention": True, "position_biased_input": False, "attention_probs_dropout_prob": 0.0}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SMALL |= {"vocab_size": 8_000}


def roberta(folder: Path, **shape: Any) -> str:
    """A model of RoBERTa-base's shape with random weights, and a byte-level tokenizer made of the demo's text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((row["context"] for row in data.rows(data.squad_like(400, 400))), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>"}
    inputs = ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=512, model_input_names=inputs, **names
    ).save_pretrained(folder)
    set_seed(0)
    RobertaForQuestionAnswering(RobertaConfig(**{**BASE, **shape})).save_pretrained(folder)
    return str(folder)


def deberta(folder: Path, tokenizer_folder: str, **shape: Any) -> str:
    """A model of DeBERTa-v3-base's shape with random weights, and the tokenizer of another model."""
    PreTrainedTokenizerFast.from_pretrained(tokenizer_folder).save_pretrained(folder)
    set_seed(0)
    DebertaV2ForQuestionAnswering(DebertaV2Config(**{**DEBERTA, **shape})).save_pretrained(folder)
    return str(folder)


class Bench:
    """All contestants on one model and one set of windows.

    `steps` of ours are timed after `warm` for compilation; of a recipe's `recipe_steps` (all, not timed).
    """

    def __init__(self, model_folder: str, windows_folder: str, steps: int, warm: int, recipe_steps: tuple[int, int]):
        self.model, self.folder, self.steps, self.warm = model_folder, windows_folder, steps, warm
        self.recipe_steps = recipe_steps
        self.windows = datasets.load_from_disk(windows_folder).shuffle(seed=0)
        self.lengths = np.array([len(ids) for ids in self.windows["input_ids"]])
        self.device = devices.device()
        self.rate = matmul_rate(self.device, 8192 if self.device.type == "cuda" else 512)
        config = AutoConfig.from_pretrained(model_folder)
        self.forward = flop_of_forward(config, self.lengths) / len(self.lengths)
        self.tokens = float(self.lengths.mean())
        self.lines: list[dict[str, Any]] = []

    def note(self, what: str, batch: int, rate: float, passes: int, **more: Any) -> float:
        """Keep and print a measurement: samples/s, real tokens/s, share of the measured matmul rate."""
        share = rate * self.forward * passes / self.rate
        line = {"what": what, "batch": batch, "samples_per_second": rate, "tokens_per_second": rate * self.tokens}
        self.lines.append({**line, "share_of_matmul_rate": share, **more})
        remark = f" ({more['computed']})" if "computed" in more else ""
        print(
            f"{what}, batch {batch}: {rate:,.0f} samples/s, {rate * self.tokens:,.0f} tokens/s, "
            f"{share:.1%} of the matmul rate{remark}",
            flush=True,
        )
        return rate

    def recipe_train(self, what: str, recipe: Recipe) -> float:
        """A recipe's training."""
        steps, warm = self.recipe_steps
        windows = self.windows.select(range(min(len(self.windows), recipe.batch * (steps + 1))))
        return self.note(what, recipe.batch, recipe_training(self.model, windows, recipe, steps, warm), 3)

    def own_train(self, own: Own) -> float:
        """The workflow's training, in one way of compiling."""
        gc.collect()
        torch._dynamo.reset()  # all trainings here share one cache, which holds no more than eight compilations
        every = max(1, self.warm // 2)
        found = own_training(self.model, self.folder, own, self.warm + self.steps, every, self.warm)
        what = f"ours, training, compile: {own.compile}"
        return self.note(what, own.batch, found["samples_per_second"], 3, computed=found["computed"])

    def recipe_predict(self, what: str, recipe: Recipe, windows: int) -> float:
        """A recipe's prediction."""
        few = self.windows.select(range(min(len(self.windows), windows)))
        return self.note(what, recipe.batch, recipe_prediction(self.model, few, recipe), 1)

    def own_predict(self, batch: int) -> float:
        """The workflow's prediction."""
        return self.note("ours, prediction", batch, own_prediction(self.model, self.folder, Own(batch=batch)), 1)


def run(bench: Bench, batches: tuple[int, ...], target: int, until: float) -> list[Stage]:
    """Measure everything, the batches of lesser interest only while there is time (`until`, by time.monotonic)."""
    walkthrough = bench.recipe_train("walkthrough, training", WALKTHROUGH)
    run_qa = bench.recipe_train("run_qa style, training", RUN_QA_STYLE)
    bench.recipe_train("run_qa with its best flags, training", Recipe(RUN_QA_STYLE.batch, True, None))
    predicted = {
        "walkthrough": bench.recipe_predict("walkthrough, prediction", WALKTHROUGH_PREDICTING, 1_024),
        "run_qa": bench.recipe_predict("run_qa style, prediction (padded bf16)", Recipe(64, True), 4_096),
    }
    bench.recipe_predict("run_qa with its best flags, prediction", Recipe(64, True, RUN_QA.width), 4_096)
    predicted["ours"] = max(bench.own_predict(batch) for batch in (64, 256))
    ours = {way: bench.own_train(Own(batch=target, compile=way)) for way in ("kernels", "none", "graphs")}
    best = max(ours, key=lambda way: ours[way])
    for batch in batches:
        if batch != target:
            if time.monotonic() > until:
                print(f"batch {batch} is left out: no time left", flush=True)
                continue
            bench.own_train(Own(batch=batch, compile=best))
    floor = "the matrix products of the real tokens at the rate measured for bf16 products"
    shape = f"RoBERTa-base's shape, rows of {bench.tokens:.0f} tokens in the mean"
    options = {"how": floor, "higher_is_better": True}
    train = {
        "walkthrough": walkthrough,
        "run_qa": run_qa,
        "ours": ours[best],
        "floor": bench.rate / (3 * bench.forward),
    }
    return [
        Stage("train", f"{shape}, ours in batches of {target}, compile: {best}", "samples/s", **train, **options),
        Stage("predict", shape, "windows/s", **predicted, floor=bench.rate / bench.forward, **options),
    ]


def main() -> int:
    """Run the benchmark; `--cpu` goes through it with a tiny model, to see that it works."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cpu", action="store_true", help="a tiny model on the CPU: shows that it runs, no figures")
    cpu = parser.parse_args().cpu
    logging.basicConfig(level=logging.WARNING)
    started, before = time.monotonic(), machine()
    if devices.device().type == "cpu" and not cpu:
        print("bench-gpu needs a CUDA GPU and none is visible; make bench measures the CPU", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = roberta(folder / "model", **(SMALL if cpu else {}))
        windows = windows_of(folder, model, *((10, 100) if cpu else (2_400, 24_000)))
        bench = Bench(model, windows, *((2, 2, (2, 1)) if cpu else (150, 50, (40, 10))))
        batches, target = ((4, 8), 8) if cpu else (BATCHES, TARGET_BATCH)
        stages = run(bench, batches, target, started + 300)
    more = {"gpu": None if cpu else torch.cuda.get_device_name(), "bf16_matmul_tflops": bench.rate / 1e12}
    print(f"\n{speed_tables.table(stages)}\n\n{speed_tables.details(stages)}")
    print(f"{bench.rate / 1e12:.0f} TFLOP/s measured for bf16")
    if not cpu:
        print(f"written: {speed_tables.write('gpu', stages, before, **more, lines=bench.lines)}")
    print(f"{time.monotonic() - started:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
