"""LoRA: what is trained, what is saved, and that a killed training ends with the same bytes."""

import csv
import importlib.util
from pathlib import Path

import pytest
import torch
import transformers
import yaml

import tiny
import trainings
from qa.common.errors import InputError
from qa.common.files import read_json, sha256_of_folder
from qa.config import settings, stages
from qa.model.loading import load_model
from qa.preflight.checks import check_optional_packages
from qa.preflight.plan import Plan, PlannedTraining
from qa.training import callbacks, lora
from qa.training.train import fingerprint_inputs

SETTINGS = tiny.TRAINING | {"max_steps": 6, "learning_rate": 0.01, "weight_decay": 0.01, "lora_rank": 2}
SETTINGS |= {"lora_alpha": 4, "overrides": {"hidden_dropout_prob": 0.0}}
needs_peft = pytest.mark.skipif(not importlib.util.find_spec("peft"), reason="peft is not installed")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    made = trainings.inputs_in(folder)
    return {**made, "held_out_windows": made["windows"], "held_out_records": [str(folder / "r.parquet")]}


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    return train(inputs, tmp_path_factory.mktemp("undisturbed"))


def train(inputs, folder, settings=SETTINGS, **options):
    options = tiny.RUNTIME_OPTIONS | {"every_steps": 2, "keep": 9, "keep_after_success": True, **options}
    return trainings.train(inputs, folder, settings, options)


def losses(folder):
    with open(folder / "history", newline="") as stream:
        return [float(row["loss"] or row["validation_loss"]) for row in csv.DictReader(stream)]


@needs_peft
def test_the_saved_model_is_plain_and_only_its_linear_layers_and_head_have_changed(inputs, undisturbed):
    before, after = (load_model(folder).state_dict() for folder in (inputs["model"], undisturbed / "model"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    linear = {
        f"{name}.weight" for name, part in load_model(inputs["model"]).named_modules() if "Linear" in str(type(part))
    }
    assert changed == linear | {"qa_outputs.bias"}
    for name in changed - {"qa_outputs.weight", "qa_outputs.bias"}:
        assert torch.linalg.matrix_rank(after[name] - before[name], atol=1e-5) <= 2
    assert "peft" in read_json(undisturbed / "manifest")["versions"]


@needs_peft
def test_a_head_that_the_base_model_holds_is_trained_whole_too():
    sizes = {"vocab_size": 40, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    model = transformers.T5ForQuestionAnswering(transformers.T5Config(**sizes, decoder_start_token_id=0))
    lora.add_adapters(model, 2, 4)
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert {name for name in trained if ".lora_" not in name} == {"qa_outputs.weight", "qa_outputs.bias"}
    assert not any("lora_" in name for name in trained if name.startswith("qa_outputs"))


@needs_peft
def test_a_checkpoint_has_the_plain_model_that_computes_what_the_adapted_one_did(inputs, undisturbed):
    (checkpoint,) = (undisturbed / "checkpoints").glob("*/checkpoint-6")
    adapted, batch = load_model(inputs["model"]), {"input_ids": torch.arange(5, 25)[None]}
    lora.add_adapters(adapted, 2, 4)
    lora.load_adapters(adapted, checkpoint)
    plain = load_model(checkpoint)
    with torch.no_grad():
        expected, found = (model.eval()(**batch).start_logits for model in (adapted, plain))
    assert torch.allclose(expected, found, atol=1e-5)
    assert not torch.allclose(found, load_model(inputs["model"]).eval()(**batch).start_logits, atol=1e-2)
    assert (
        sha256_of_folder(checkpoint)["model.safetensors"]
        == sha256_of_folder(undisturbed / "model")["model.safetensors"]
    )


@needs_peft
@pytest.mark.parametrize("keep_epoch", ["last", "best"])
def test_a_killed_and_resumed_training_ends_with_the_same_bytes(keep_epoch, inputs, tmp_path, monkeypatch):
    class Killed(BaseException):
        """Stands for SIGKILL."""

    def killed_at(step):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise Killed

        return on_step_end

    settings = SETTINGS | {"keep_epoch": keep_epoch, "max_steps": 12}
    once = train(inputs, tmp_path / "once", settings)
    for step in (3, 8):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(callbacks.SetEpochCallback, "on_step_end", killed_at(step))
            train(inputs, tmp_path / "often", settings)
    often = train(inputs, tmp_path / "often", settings)
    assert [attempt["resumed_at_step"] for attempt in read_json(often / "manifest")["attempts"]] == [0, 2, 6]
    assert sha256_of_folder(often / "model") == sha256_of_folder(once / "model") and losses(often) == losses(once)


@needs_peft
@pytest.mark.parametrize(
    ("settings", "options"),
    [({"padding": "longest"}, {}), ({}, {"gradient_checkpointing": True}), ({}, {"gpus": 2})],
    ids=["padded rows", "gradient checkpointing", "two processes"],
)
def test_padding_checkpointed_gradients_and_processes_change_no_loss(settings, options, inputs, undisturbed, tmp_path):
    other = train(inputs, tmp_path, SETTINGS | settings, **options)
    assert losses(other) == pytest.approx(losses(undisturbed), rel=1e-4)
    assert load_model(other / "model", trained=True)


def test_a_missing_peft_is_told_in_one_line_by_preflight_and_by_training(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"training\.lora_rank needs .* pip install peft"):
        train(inputs, tmp_path)
    trainings_planned = (PlannedTraining("m", "c", 1, lora=True), PlannedTraining("m", "c", 1))
    (found,) = check_optional_packages(Plan({}, trainings=trainings_planned))
    assert "pip install peft" in found.text and "\n" not in found.text
    assert not list(check_optional_packages(Plan({}, trainings=trainings_planned[1:])))


def test_the_version_of_peft_counts_only_where_it_is_used(inputs):
    used = [fingerprint_inputs(trainings.spec_of(inputs, settings), "x") for settings in (SETTINGS, tiny.TRAINING)]
    assert ["peft" in found["versions"] for found in used] == [True, False]


def test_alpha_without_a_rank_is_no_part_of_a_training():
    path = Path(tiny.__file__).parents[2] / "config" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    given = []
    for changes in ({}, {"lora_alpha": 8}, {"lora_alpha": 8, "lora_rank": 4}):
        changed = settings.resolve(config | {"defaults": {"training": changes}})
        given.append(stages.training(changed.runs["roberta-base"], changed))
    assert given[0] == given[1] and given[2] == {**given[0], "lora_alpha": 8, "lora_rank": 4}
