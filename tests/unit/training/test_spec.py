"""What defines a training: the rule's params become typed objects and back, and nothing is lost on the way."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

import tiny
import trainings
from qa.config import settings, stages
from qa.training.spec import RuntimeOptions, TrainingInputs, TrainingSettings, TrainingSpec
from qa.training.train import fingerprint_inputs

OPTIONAL = {
    "epochs": 2.5,
    "max_length": 64,
    "deterministic": True,
    "early_stopping": 2,
    "f1_by": ["characters", "words"],
    "questions": 50,
    "lora_rank": 8,
    "lora_alpha": 16,
    "distillation": {"weight": 0.5, "temperature": 2.0},
}


@pytest.mark.parametrize("optional", [{}, OPTIONAL], ids=["none", "all"])
def test_settings_are_the_params_of_the_rule_and_back(optional):
    params = {**tiny.TRAINING, **optional}
    assert TrainingSettings.of(params).params() == params


def test_an_unknown_and_a_missing_setting_are_refused():
    with pytest.raises(TypeError, match="length_groups"):
        TrainingSettings.of({**tiny.TRAINING, "length_groups": 3})
    with pytest.raises(TypeError, match="learning_rate"):
        TrainingSettings.of({name: value for name, value in tiny.TRAINING.items() if name != "learning_rate"})
    with pytest.raises(TypeError, match="momentum"):
        TrainingSettings.of({**tiny.TRAINING, "distillation": {"weight": 1.0, "temperature": 1.0, "momentum": 1.0}})
    with pytest.raises(TypeError, match="pictures"):
        TrainingInputs.of({"model": "m", "windows": ["w"], "pictures": ["p"]})


def test_workers_read_the_spec_that_was_written_for_them():
    spec = trainings.spec_of(
        {"model": "m", "windows": ["a", "b"], "targets": ["s", "t"]}, {**tiny.TRAINING, **OPTIONAL}
    )
    assert TrainingSpec.of_json(json.loads(json.dumps(asdict(spec)))) == spec


def test_the_configuration_gives_every_run_the_settings_and_options_of_a_training():
    path = Path(tiny.__file__).parents[2] / "config" / "config.yaml"
    resolved = settings.resolve(yaml.safe_load(path.read_text()))
    of_the_job = {"threads": 4, "walltime_minutes": None}
    for run in resolved.runs.values():
        if run.is_trained:
            assert TrainingSettings.of(stages.training(run, resolved)).batch_size
            options = stages.runtime_options(run)
            assert asdict(RuntimeOptions(**options, **of_the_job)) == {**options, **of_the_job}


def test_inputs_that_a_training_has_no_use_for_are_no_part_of_its_fingerprint(tmp_path):
    for name in ("model", "windows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text(name)
    inputs = {"model": str(tmp_path / "model"), "windows": [str(tmp_path / "windows")]}
    found = fingerprint_inputs(trainings.spec_of(inputs), "code")
    assert found["inputs"].keys() == inputs.keys() and found["settings"] == tiny.TRAINING
    options = tiny.RUNTIME_OPTIONS | {"every_steps": 7, "log_every_steps": 3, "compile": "graphs", "threads": 3}
    options["gradient_checkpointing"] = True
    assert fingerprint_inputs(trainings.spec_of(inputs, options=options), "code") == found


@pytest.mark.parametrize(("change", "key"), [({"gpus": 2}, "processes"), ({"nodes": 2}, "processes")])
def test_another_number_of_processes_changes_the_fingerprint(change, key, tmp_path):
    (tmp_path / "model").mkdir()
    inputs = {"model": str(tmp_path / "model")}
    first = fingerprint_inputs(trainings.spec_of(inputs), "code")
    second = fingerprint_inputs(trainings.spec_of(inputs, options=tiny.RUNTIME_OPTIONS | change), "code")
    assert {name for name in first if first[name] != second[name]} == {key}
