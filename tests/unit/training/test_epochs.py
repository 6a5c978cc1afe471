"""Choosing a checkpoint: EM and F1 on held-out questions after each epoch, and the best epoch kept."""

import csv
import json
import shutil

import pytest
import transformers
from safetensors.torch import load_file

import tiny
import trainings
from qa.data.prepare_questions import convert
from qa.data.read_records import titles_and_golds
from qa.decoding import calibrate
from qa.decoding.postprocess import candidates_of
from qa.metrics import squad
from qa.model import predict
from qa.training import epochs
from qa.training import train as training
from qa.training.trainer import WindowTrainer
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

SETTINGS = tiny.TRAINING | {"epochs": 3, "max_steps": None, "learning_rate": 0.003}
OPTIONS = tiny.RUNTIME_OPTIONS | {"every_steps": 4, "log_every_steps": 2}
PREDICTION = {"batch_size": 64, "candidates": 20, "precision": "fp32", "padding": "packed"}
CHECK = epochs.Check


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    tiny.save_model(folder / "model")
    for name, questions in (("kept", 15), ("held", 8)):
        convert([tiny.write_squad(folder / f"{name}.json", questions=questions)], folder / f"{name}.parquet")
        tokenize(folder / f"{name}.parquet", load_tokenizer(folder / "model"), tiny.WINDOWS, folder / name)
    return {
        "model": str(folder / "model"),
        "windows": [str(folder / "kept")],
        "validation": [str(folder / "held")],
        "held_out_windows": [str(folder / "held")],
        "held_out_records": [str(folder / "held.parquet")],
    }


def train(inputs, folder, **changes):
    return trainings.train(inputs, folder, SETTINGS | changes, OPTIONS)


def train_until_killed(monkeypatch, step, inputs, folder, **changes):
    """Train up to a step. Other callbacks have been called for this step already."""
    add_callback = WindowTrainer.add_callback

    class Kill(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise Killed

    def and_kill(self, callback):
        add_callback(self, callback)
        add_callback(self, Kill())

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(WindowTrainer, "add_callback", and_kill)
        train(inputs, folder, **changes)


def rows(folder):
    with open(folder / "history", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["calibration_f1"]]


def weights(folder):
    return {name: values.tolist() for name, values in load_file(folder / "model" / "model.safetensors").items()}


def scores_of(inputs, folder, tmp_path):
    """EM and F1 as the stages find them: predict, calibrate."""
    spans = tmp_path / "spans.parquet"
    predict.predict(folder / "model", inputs["held_out_windows"][0], PREDICTION, 1, spans)
    decoding = {"method": "n_best", "n_best_size": 20, "max_answer_length": 30}
    decoding |= {"calibrate_for": "f1", "unanswerable_prior": None}
    return calibrate.calibrate([str(spans)], inputs["held_out_records"], decoding, tmp_path / "calibration.json")


def test_each_epoch_has_the_scores_that_its_model_would_get_on_the_held_out_questions(inputs, tmp_path):
    folder = train(inputs, tmp_path / "one")
    found = rows(folder)
    assert [row["epoch"] for row in found] == ["1.0", "2.0", "3.0"] and all(row["validation_loss"] for row in found)
    scores = scores_of(inputs, folder, tmp_path)
    last = found[-1]
    assert float(last["calibration_exact"]) == pytest.approx(scores["exact"])
    assert float(last["calibration_f1"]) == pytest.approx(scores["f1"])


def test_loss_and_scores_of_held_out_windows_come_from_one_pass(inputs, tmp_path, monkeypatch):
    other = inputs | {"validation": [shutil.copytree(inputs["validation"][0], tmp_path / "same")]}
    (twice,) = rows(train(other, tmp_path / "twice", epochs=1))  # first the Trainer's pass, then that of the check
    monkeypatch.delattr(transformers.Trainer, "evaluation_loop")
    (once,) = rows(train(inputs, tmp_path / "once", epochs=1))
    loss = "validation_loss"
    assert float(once.pop(loss)) == pytest.approx(float(twice.pop(loss)), rel=1e-6) and once == twice


def test_a_model_with_packed_rows_by_a_hook_has_the_scores_of_padded_rows(inputs, tmp_path):
    """DeBERTa's attention is told the windows of each batch by a hook, which a call of `forward` would pass by."""
    tokenizer = tiny.word_piece()
    options = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    options |= {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}
    options |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.DebertaV2Config(vocab_size=len(tokenizer), **options)
    transformers.DebertaV2ForQuestionAnswering(config).save_pretrained(tmp_path / "deberta")
    tokenizer.save_pretrained(tmp_path / "deberta")
    found = [
        rows(train(inputs | {"model": str(tmp_path / "deberta")}, tmp_path / padding, epochs=2, padding=padding))
        for padding in ("packed", "longest")
    ]
    for packed, padded in zip(*found, strict=True):
        assert float(packed["validation_loss"]) == pytest.approx(float(padded["validation_loss"]), rel=1e-4)
        assert packed["calibration_f1"] == padded["calibration_f1"]


def check_of(scores):
    """Takes the place of the check: these F1s, epoch by epoch."""

    class Told(CHECK):
        def __call__(self, model):
            self.count = getattr(self, "count", -1) + 1
            real = super().__call__(model)
            return real | {epochs.F1: scores[self.count]}

    return Told


def test_the_best_epoch_is_kept_and_the_first_of_equals(inputs, tmp_path, monkeypatch):
    lasts = {count: weights(train(inputs, tmp_path / f"{count}", epochs=count)) for count in (1, 2, 3)}
    assert lasts[1] != lasts[2] != lasts[3]
    for scores, best in (([50.0, 70.0, 60.0], 2), ([70.0, 50.0, 70.0], 1), ([1.0, 2.0, 3.0], 3)):
        monkeypatch.setattr(epochs, "Check", check_of(scores))
        folder = train(inputs, tmp_path / f"best-{best}", keep_epoch="best")
        assert weights(folder) == lasts[best]
        assert not list((folder / "checkpoints").rglob("best-*"))  # they go with the checkpoints
        assert transformers.AutoModelForQuestionAnswering.from_pretrained(folder / "model")


def test_a_training_killed_after_its_best_epoch_keeps_the_same_one(inputs, tmp_path, monkeypatch):
    class Fixed(CHECK):
        def __call__(self, model):  # a function of the weights: the resumed training finds it again
            value = float(next(iter(model.parameters())).sum())
            return {epochs.LOSS: 1.0, epochs.EXACT: 0.0, epochs.F1: value % 97}

    monkeypatch.setattr(epochs, "Check", Fixed)
    once = train(inputs, tmp_path / "once", keep_epoch="best")
    steps = json.loads((once / "manifest").read_text())["steps"]

    for step in (steps // 3 + 1, 2 * steps // 3 + 1, steps):
        train_until_killed(monkeypatch, step, inputs, tmp_path / "often", keep_epoch="best")
    often = train(inputs, tmp_path / "often", keep_epoch="best")
    assert weights(often) == weights(once) and rows(often) == rows(once) != []
    assert len(json.loads((often / "manifest").read_text())["attempts"]) == 4


def test_training_ends_after_the_patience_and_at_the_same_step_if_it_was_killed(inputs, tmp_path, monkeypatch):
    scores = {}

    class Scored(CHECK):
        def __call__(self, model):  # by the weights: the resumed training finds them again
            key = float(next(iter(model.parameters())).sum())
            return {
                epochs.LOSS: 1.0,
                epochs.EXACT: 0.0,
                epochs.F1: scores.setdefault(key, [50.0, 70.0, 60.0, 70.0, 99.0][len(scores)]),
            }

    monkeypatch.setattr(epochs, "Check", Scored)
    settings = {"keep_epoch": "best", "early_stopping": 2, "epochs": 6}
    once = train(inputs, tmp_path / "once", **settings)
    assert [row["epoch"] for row in rows(once)] == ["1.0", "2.0", "3.0", "4.0"]
    assert weights(once) == weights(train(inputs, tmp_path / "two", epochs=2))
    steps = int(rows(once)[0]["step"])
    for step in (2 * steps + 1, 3 * steps + 2):
        train_until_killed(monkeypatch, step, inputs, tmp_path / "often", **settings)
    with monkeypatch.context() as patch, pytest.raises(Killed):  # at its end, the files not yet written
        patch.setattr(training, "_write_history", lambda *arguments: (_ for _ in ()).throw(Killed))
        train(inputs, tmp_path / "often", **settings)
    often = train(inputs, tmp_path / "often", **settings)
    assert weights(often) == weights(once) and rows(often) == rows(once) != []
    assert json.loads((often / "manifest").read_text())["attempts"][-1]["resumed_at_step"] == 4 * steps


def test_the_history_of_a_training_that_ends_early_has_the_losses_of_its_last_steps(inputs, tmp_path):
    settings = SETTINGS | {"keep_epoch": "best", "early_stopping": 1, "learning_rate": 1e-12}  # no epoch is better
    folder = trainings.train(inputs, tmp_path, settings, OPTIONS | {"log_every_steps": 1000})
    with open(folder / "history", newline="") as stream:
        epochs_logged = [row["epoch"] for row in csv.DictReader(stream) if row["loss"]]
    assert epochs_logged == ["1.0", "2.0"]


def test_the_f1_of_an_epoch_counts_what_the_datasets_f1_counts(inputs, tmp_path, monkeypatch):
    counted = []
    raw_scores = squad.raw_scores
    monkeypatch.setattr(squad, "raw_scores", lambda *found: counted.append(found[2]) or raw_scores(*found))
    train(inputs, tmp_path, epochs=1, keep_epoch="best", f1_by=["characters"])
    train(inputs, tmp_path / "words", epochs=1, keep_epoch="best")
    assert counted == ["characters", "words"]


def test_two_processes_end_after_the_patience(inputs, tmp_path):
    settings = SETTINGS | {"keep_epoch": "best", "early_stopping": 1, "learning_rate": 1e-12}  # no epoch is better
    folder = trainings.train(inputs, tmp_path, settings, OPTIONS | {"gpus": 2})
    assert [row["epoch"] for row in rows(folder)] == ["1.0", "2.0"]


def test_the_best_step_is_read_off_the_trainers_log():
    log = [
        {"step": 4, "loss": 1.0},
        {"step": 8, epochs.F1: 3.0},
        {"step": 16, epochs.F1: 5.0},
        {"step": 24, epochs.F1: 5.0},
    ]
    assert epochs.best_step(log) == 16


def test_candidates_are_those_of_the_stage(inputs, tmp_path):
    """The check decodes as a decoding of the configuration with the schema's defaults does."""
    folder = train(inputs, tmp_path, epochs=1)
    predict.predict(folder / "model", inputs["held_out_windows"][0], PREDICTION, 1, tmp_path / "spans.parquet")
    golds = titles_and_golds(inputs["held_out_records"][0])[1]
    decoding = {"method": "n_best", "n_best_size": epochs.CANDIDATES, "max_answer_length": epochs.LONGEST_ANSWER}
    found = candidates_of([tmp_path / "spans.parquet"], decoding, inputs["held_out_records"][0])
    assert len(found.null_score) == len(golds) == 8 and len(found.record)
