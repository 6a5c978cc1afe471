"""Runs without training: their model is fine-tuned already, or they are refused."""

import copy
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

import tiny
from qa.common.errors import InputError
from qa.config import lineage, settings, stages
from qa.data.prepare_questions import convert
from qa.model.loading import load_model
from qa.model.predict import predict
from qa.model.spans import Spans
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

CONFIG = yaml.safe_load((Path(__file__).parents[3] / "config" / "config.yaml").read_text())
READY = {
    "model": "roberta-base",
    "train_on": None,
    "evaluate_on": ["squad_v2/validation"],
    "decodings": ["threshold_0", "walkthrough"],
}
PREDICTION = {"batch_size": 4, "candidates": 5, "precision": "fp32", "padding": "longest"}


def with_ready(**own):
    config = copy.deepcopy(CONFIG)
    config["runs"]["ready"] = READY | own
    return config


def test_a_run_without_training_has_one_variant_and_no_trainings():
    resolved = settings.resolve(with_ready(seeds=[1, 2, 3]))
    ready = resolved.runs["ready"]
    assert lineage.variants(ready) == ["published"]
    assert [pair for pair in lineage.trainings(resolved) if pair[0] == "ready"] == []
    assert {run for run, _ in lineage.trainings(resolved)} == {"baseline", "roberta-base"}
    scored = [found for found in lineage.scored(resolved) if found[0] == "ready"]
    assert scored == [("ready", "published", "squad_v2/validation", name) for name in READY["decodings"]]


def test_it_predicts_with_the_downloaded_model_and_a_trained_run_with_its_own():
    runs = settings.resolve(with_ready()).runs
    assert lineage.model_folder("ready", runs["ready"], "published") == "resources/models/roberta-base"
    assert lineage.model_folder("baseline", runs["baseline"], "seed-42") == "results/baseline/seed-42/model"


def test_its_windows_are_shared_with_trained_runs_of_equal_settings():
    runs = settings.resolve(with_ready()).runs
    assert stages.windows_id(runs["ready"]) == stages.windows_id(runs["roberta-base"])


def test_overrides_of_a_published_model_reach_prediction_and_those_of_a_trained_one_do_not():
    config = with_ready()
    config["models"]["roberta-base"]["overrides"] = {"num_hidden_layers": 6}
    resolved = settings.resolve(config)
    read = {name: stages.prediction(run, resolved.models) for name, run in resolved.runs.items()}
    assert read["ready"]["overrides"] == {"num_hidden_layers": 6} and "overrides" not in read["baseline"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("validate_on", "squad_v2/validation"),
        ("training", {"epochs": 1}),
        ("training", {"epochs": [1, 2]}),
        ("checkpoints", {"keep": 1}),
    ],
)
def test_what_only_training_reads_is_refused(key, value):
    with pytest.raises(InputError, match=rf"runs\.ready\.{key}: this run trains nothing .*leave {key} out"):
        settings.resolve(with_ready(**{key: value}))


def test_training_settings_of_the_defaults_do_not_bother_it():
    config = with_ready()
    config["runs"] = {"ready": config["runs"]["ready"]}
    config["defaults"]["training"]["gpus"] = 7  # divides no batch
    assert settings.resolve(config).runs["ready"].train_on is None


def test_training_must_be_left_out_on_purpose():
    config = with_ready()
    del config["runs"]["ready"]["train_on"]
    with pytest.raises(InputError, match=r"runs\.ready: `train_on` is missing"):
        settings.resolve(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Windows of some questions, a fine-tuned model, and the same one without its head."""
    folder = tmp_path_factory.mktemp("published")
    tiny.save_model(folder / "tuned")
    shutil.copytree(folder / "tuned", folder / "bare")
    weights = load_file(folder / "tuned" / "model.safetensors")
    headless = {name: tensor for name, tensor in weights.items() if not name.startswith("qa_outputs.")}
    assert len(headless) == len(weights) - 2
    save_file(headless, folder / "bare" / "model.safetensors", {"format": "pt"})
    convert([tiny.write_squad(folder / "q.json", questions=8)], folder / "r.parquet")
    tokenize(folder / "r.parquet", load_tokenizer(folder / "tuned"), tiny.WINDOWS, folder / "windows")
    return folder


def test_a_fine_tuned_model_predicts_as_it_is(folder, tmp_path):
    predict(folder / "tuned", folder / "windows", PREDICTION, 1, tmp_path / "s.parquet")
    assert len(Spans.read(tmp_path / "s.parquet")) >= 8


def test_a_model_without_a_trained_head_is_refused_by_prediction_and_taken_by_training(folder, tmp_path):
    message = r"bare: not fine-tuned for question answering, it has no qa_outputs\.bias.*name a model .*train_on"
    with pytest.raises(InputError, match=message):
        predict(folder / "bare", folder / "windows", PREDICTION, 1, tmp_path / "s.parquet")
    assert not (tmp_path / "s.parquet").exists()
    assert load_model(folder / "bare").qa_outputs.weight.shape == (2, 32)


def test_overrides_change_the_model_that_predicts(folder, tmp_path):
    with pytest.raises(InputError, match="has no num_layers_typo"):
        predict(
            folder / "tuned",
            folder / "windows",
            PREDICTION | {"overrides": {"num_layers_typo": 1}},
            1,
            tmp_path / "s.parquet",
        )
