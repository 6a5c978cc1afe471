"""The benchmarks' recipes of training and prediction compute what they say."""

import os

import datasets
import numpy as np
import pytest
import torch

import data
import tiny
import training_bench
from qa.data.prepare_questions import convert
from qa.model.loading import load_model
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer
from training_bench import (
    Own,
    Recipe,
    Rows,
    by_turns,
    flop_of_forward,
    own_prediction,
    own_training,
    products_rate,
    recipe_trainer,
)

WINDOWS = tiny.WINDOWS | {"max_length": 96}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    model = tiny.save_model(folder / "model", dropout=0.0)
    convert([tiny.write_squad(folder / "q.json", questions=12)], folder / "r.parquet")
    tokenize(folder / "r.parquet", load_tokenizer(model), WINDOWS, folder / "windows")
    return str(model), str(folder / "windows")


@pytest.mark.parametrize("recipe", [Recipe(4, width=96), Recipe(5, width=None)])
def test_a_recipe_predicts_the_logits_of_the_model(recipe, inputs, tmp_path):
    model_folder, windows = inputs[0], datasets.load_from_disk(inputs[1])
    trainer = recipe_trainer(model_folder, windows, recipe, 1, str(tmp_path), labelled=False)
    start, end = trainer.predict(trainer.train_dataset).predictions
    model = load_model(model_folder).eval()
    for number, row in enumerate(windows):
        given = {name: torch.tensor([row[name]]) for name in ("input_ids", "token_type_ids")}
        with torch.no_grad():
            output = model(**given)
        length = len(row["input_ids"])
        np.testing.assert_allclose(start[number, :length], output.start_logits[0], atol=1e-4)
        np.testing.assert_allclose(end[number, :length], output.end_logits[0], atol=1e-4)


def test_a_recipe_trains_on_the_labels_of_the_windows(inputs, tmp_path):
    windows = datasets.load_from_disk(inputs[1])
    trainer = recipe_trainer(inputs[0], windows, Recipe(6, width=96), 30, str(tmp_path), labelled=True)
    trainer.args.learning_rate = 1e-2
    before = trainer.evaluate(trainer.train_dataset)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(trainer.train_dataset)["eval_loss"] < before - 0.5


def test_rows_of_a_recipe_are_padded_with_what_the_model_ignores(inputs):
    windows, tokenizer = datasets.load_from_disk(inputs[1]), load_tokenizer(inputs[0])
    row, given = Rows(windows, tokenizer, 96, labelled=True)[3], windows[3]
    length = len(given["input_ids"])
    assert {len(row[name]) for name in ("input_ids", "token_type_ids", "attention_mask")} == {96}
    assert row["input_ids"][:length] == given["input_ids"]
    assert set(row["input_ids"][length:]) == {tokenizer.pad_token_id} and sum(row["attention_mask"]) == length
    assert row["start_positions"] == given["start_positions"]


def test_the_workflows_own_stages_are_what_is_timed(inputs, monkeypatch):
    called = []
    train, spans = training_bench.training.train, training_bench.inference.Predictor.spans
    monkeypatch.setattr(training_bench.training, "train", lambda *given: called.append("train") or train(*given))
    monkeypatch.setattr(
        training_bench.inference.Predictor, "spans", lambda self, table: called.append(len(table)) or spans(self, table)
    )
    own = Own(batch=4, precision="fp32")
    found = own_training(*inputs, own, steps=4, every=1, warm=2)
    assert found["samples_per_second"] > 0 and found["computed"].startswith("packed rows")
    assert own_prediction(*inputs, own) > 0
    assert called == ["train", 4, len(datasets.load_from_disk(inputs[1]))]  # a batch beforehand, as the recipes have it


def test_each_turn_is_a_process_of_its_own():
    processes = [by_turns({"run_qa": (os.getpid,)}, 1)["run_qa"] for _ in range(2)]
    assert len({os.getpid(), *processes}) == 3


def test_the_floor_is_measured_on_all_products_of_a_layer():
    from transformers import BertConfig

    config = BertConfig(hidden_size=32, intermediate_size=48)
    assert products_rate(config, 20, training=False) > 0 and products_rate(config, 20, training=True) > 0


def test_the_arithmetic_of_a_forward_pass_is_what_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertForQuestionAnswering

    config = BertConfig(
        vocab_size=50,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=160,
        attn_implementation="eager",
    )
    model, length = BertForQuestionAnswering(config).eval(), 20
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(1, length, dtype=torch.long))
    head = 2 * length * 2 * config.hidden_size
    assert flop_of_forward(config, np.array([length])) == counter.get_total_flops() - head


def test_the_questions_are_like_squads_in_number_and_length():
    rows = data.rows(data.squad_like())
    assert len(rows) == 11_873 and len({row["context"] for row in rows}) == 1_204
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows[:500]:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
    answerable = np.mean([bool(row["answers"]["text"]) for row in rows])
    assert 0.45 < answerable < 0.55
    assert 125 < np.mean([len(row["context"].split()) for row in rows]) < 140
