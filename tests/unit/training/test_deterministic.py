"""`deterministic: true`: asked of torch while training and prediction compute, refused where it cannot be had."""

import os
from pathlib import Path

import pytest
import torch
import yaml
from test_train import SETTINGS, history, inputs, train, undisturbed  # noqa: F401, fixtures

from qa.common.errors import InputError
from qa.common.files import sha256_of_file, sha256_of_folder
from qa.config import settings, stages
from qa.model import devices, packing, predict
from qa.training import callbacks

PREDICTION = {"batch_size": 4, "candidates": 5, "precision": "fp32", "padding": "packed"}


def test_on_a_cpu_it_changes_no_byte_and_is_asked_for_while_computing_only(inputs, undisturbed, tmp_path, monkeypatch):  # noqa: F811
    asked = []

    def on_step_end(self, args, state, control, **kwargs):
        asked.append((torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))

    monkeypatch.setattr(callbacks.SetEpochCallback, "on_step_end", on_step_end)
    train(inputs, tmp_path, settings={**SETTINGS, "deterministic": True})
    assert asked == [(True, ":4096:8")] * 7
    assert not torch.are_deterministic_algorithms_enabled()
    assert sha256_of_folder(tmp_path / "model") == sha256_of_folder(undisturbed / "model")
    assert history(tmp_path) == history(undisturbed)


def test_on_a_cpu_predictions_are_the_same_bytes_with_it(inputs, undisturbed, tmp_path, monkeypatch):  # noqa: F811
    asked, logits = [], packing.window_logits

    def watched(*arguments):
        asked.append(torch.are_deterministic_algorithms_enabled())
        return logits(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "window_logits", watched)
        for wanted in (False, True):
            asked.clear()
            spans = tmp_path / f"{wanted}.parquet"
            chosen = {**PREDICTION, "deterministic": True} if wanted else PREDICTION
            predict.predict(undisturbed / "model", inputs["windows"][0], chosen, 1, spans)
            assert set(asked) == {wanted}  # the trials of packing too: torch looks at cuBLAS's settings only once
    assert sha256_of_file(tmp_path / "True.parquet") == sha256_of_file(tmp_path / "False.parquet")


def test_an_operation_without_such_an_algorithm_is_an_error_that_says_what_to_do():
    with (
        pytest.raises(InputError, match=r"deterministic: true cannot be kept .*put_.* set it to false"),
        devices.repeatable(True),
    ):
        torch.zeros(3).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="other"), devices.repeatable(True):
        raise RuntimeError("other")


def test_without_it_the_settings_of_training_and_prediction_are_what_they_were():
    config = yaml.safe_load((Path(__file__).parents[3] / "config" / "config.yaml").read_text())
    for wanted in (False, True):
        config["defaults"]["deterministic"] = wanted
        resolved = settings.resolve(config)
        for run in resolved.runs.values():
            for part in (stages.training(run, resolved), stages.prediction(run, resolved.models)):
                assert ("deterministic" in part) is wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("padding", ["packed", "longest", "max_length"])
def test_on_a_gpu_training_and_prediction_are_the_same_bytes_twice(padding, dropout, precision, inputs, tmp_path):  # noqa: F811
    chosen = {**SETTINGS, "max_steps": 40, "deterministic": True, "precision": precision, "padding": padding}
    chosen |= {"attention_dropout": dropout} | ({"max_length": 64} if padding == "max_length" else {})
    found = []
    for name in ("once", "twice"):
        folder = train(inputs, tmp_path / name, settings=chosen, compile="graphs")
        spans = {**PREDICTION, "precision": precision, "padding": padding, "deterministic": True}
        spans |= {"max_length": 64} if padding == "max_length" else {}
        predict.predict(folder / "model", inputs["windows"][0], spans, 1, folder / "spans.parquet")
        found.append((sha256_of_folder(folder / "model"), sha256_of_file(folder / "spans.parquet")))
    assert found[0] == found[1]
