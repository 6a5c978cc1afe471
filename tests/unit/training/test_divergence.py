"""A training that diverges stops at once, says at which step, and keeps what was good before."""

import json
import math

import pytest
import torch

import tiny
import trainings
from qa.common.errors import InputError
from qa.data.prepare_questions import convert
from qa.model.loading import load_model
from qa.training import callbacks, trainer
from qa.training.checkpoints import TrainingMemory, checkpoints_in
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer

SETTINGS = tiny.TRAINING | {"max_steps": 12}
OPTIONS = tiny.RUNTIME_OPTIONS | {"every_steps": 2, "keep": 2, "log_every_steps": 100}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    texts = [p["context"] + p["qas"][0]["question"] for p in tiny.squad(30)["data"][0]["paragraphs"]]
    tiny.save_model(folder / "model", texts)
    convert([tiny.write_squad(folder / "q.json", questions=30)], folder / "r.parquet")
    tokenize(folder / "r.parquet", load_tokenizer(folder / "model"), tiny.WINDOWS, folder / "windows")
    return {"model": str(folder / "model"), "windows": [str(folder / "windows")]}


def train(inputs, folder, **settings):
    trainings.train(inputs, folder, SETTINGS | settings, OPTIONS)


def checkpoints(folder):
    (memory,) = [path for path in (folder / "checkpoints").iterdir() if path.is_dir()]
    return checkpoints_in(memory)


def nothing_is_finished(folder):
    assert not [name for name in ("model", "history", "manifest") if (folder / name).exists()]
    (attempts,) = (folder / "checkpoints").glob("*/attempts.json")
    assert json.loads(attempts.read_text())[-1]["outcome"] == "failed"


@pytest.mark.parametrize("padding", ["packed", "max_length"])
def test_an_absurd_learning_rate_ends_the_training_at_the_step_that_diverges(padding, inputs, tmp_path):
    with pytest.raises(InputError, match=r"training diverged: .*lower training.learning_rate") as caught:
        train(inputs, tmp_path, learning_rate=1e38, max_gradient_norm=0.0, padding=padding, max_length=64)
    assert "step 1 " in str(caught.value) or "step 2 " in str(caught.value)
    nothing_is_finished(tmp_path)
    assert not checkpoints(tmp_path), "none of weights that are no numbers"


@pytest.fixture
def poisoned(monkeypatch):
    """Weights that become no numbers while a step is taken, as by a fault of memory; the loss shows it one step on."""

    def at(step):
        def fault(self, args, state, control, model=None, **kwargs):
            if state.global_step == step:
                with torch.no_grad():
                    model.qa_outputs.weight[0, 0] = math.nan

        monkeypatch.setattr(callbacks.SetEpochCallback, "on_step_end", fault, raising=False)

    return at


def test_the_last_good_checkpoint_is_kept_and_resumed(inputs, poisoned, tmp_path, monkeypatch, caplog):
    poisoned(7)
    with pytest.raises(InputError, match=r"the loss of step 8 is not finite.*kept from before: .*checkpoint-6"):
        train(inputs, tmp_path)
    nothing_is_finished(tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-6", "checkpoint-4"]
    for path in checkpoints(tmp_path):
        assert load_model(path), "of finite weights"
    monkeypatch.undo()
    with caplog.at_level("INFO"):
        train(inputs, tmp_path)
    assert "attempt 2 resumes at step 6" in caplog.text
    train(inputs, tmp_path / "undisturbed")
    again, undisturbed = (folder / "model" / "model.safetensors" for folder in (tmp_path, tmp_path / "undisturbed"))
    assert again.read_bytes() == undisturbed.read_bytes()


def test_weights_that_are_no_numbers_are_never_saved_whatever_the_loss_was(inputs, poisoned, tmp_path):
    poisoned(6)
    with pytest.raises(InputError, match=r"after step 6 some weights are not finite.*checkpoint-4"):
        train(inputs, tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-2"]


def test_a_last_step_that_diverges_makes_no_model(inputs, poisoned, tmp_path):
    poisoned(12)
    with pytest.raises(InputError, match="after step 12 some weights"):
        train(inputs, tmp_path)
    nothing_is_finished(tmp_path)


def test_losses_are_looked_at_when_they_are_logged_where_a_device_runs_ahead(inputs, poisoned, tmp_path, monkeypatch):
    poisoned(5)
    monkeypatch.setattr(trainer.WindowTrainer, "training_step", ahead(trainer.WindowTrainer.training_step))
    with pytest.raises(InputError, match="the loss of step 6 is not finite"):
        train(inputs, tmp_path)


def ahead(step):
    """A step as on a GPU: the check at once, which only a CPU makes, left out."""

    def taken(self, *arguments, **options):
        self._check_losses = lambda: None
        try:
            return step(self, *arguments, **options)
        finally:
            del self._check_losses

    return taken


def test_a_memory_of_training_never_offers_a_checkpoint_that_was_not_finished(inputs, poisoned, tmp_path):
    poisoned(2)
    with pytest.raises(InputError, match="after step 2"):
        train(inputs, tmp_path)
    (memory,) = [path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]
    assert TrainingMemory(tmp_path / "checkpoints", memory).newest_whole() is None
