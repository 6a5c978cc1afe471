"""`overrides` of a model's own configuration: mistyped keys are refused before anything is trained."""

import json
import sys

import pytest

from qa.common.errors import InputError
from qa.model.overrides import override, read_config
from qa.preflight import checks
from qa.preflight.checks import check_overrides
from qa.preflight.findings import PROBLEM
from qa.preflight.plan import Plan
from small_hub import COMMIT

MESSAGE = "models.tiny.overrides: BertConfig has no num_hiden_layers; did you mean `num_hidden_layers`?"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return str(tmp_path / "tiny")


def test_keys_that_the_model_does_not_have_are_refused_with_the_near_key(folder):
    config = read_config(folder)
    override(config, folder, {"hidden_dropout_prob": 0.2, "num_hidden_layers": 6})
    assert (config.hidden_dropout_prob, config.num_hidden_layers) == (0.2, 6)
    with pytest.raises(InputError) as error:
        override(config, folder, {"hidden_dropout_prob": 0.2, "num_hiden_layers": 6, "xyzzy": 1})
    assert str(error.value).split("\n") == [MESSAGE, "models.tiny.overrides: BertConfig has no xyzzy"]


@pytest.mark.parametrize("key, value", [("num_labels", 3), ("id2label", "x"), ("dtype", "bfloat16")])
def test_keys_whose_values_the_workflow_sets_are_refused(key, value, folder):
    with pytest.raises(InputError) as error:
        override(read_config(folder), folder, {key: value})
    assert str(error.value) == f"models.tiny.overrides: the workflow itself sets {key}; leave it out"


def test_preflight_names_a_value_that_the_model_refuses(folder, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 100.0)  # a slow machine loads transformers in more than the limit
    (found,) = check_overrides(Plan({}, overrides={folder: {"num_hidden_layers": "few", "hidden_act": "relu"}}))
    assert found.kind == PROBLEM and found.text.startswith("models.tiny.overrides.num_hidden_layers: ")
    assert "few" in found.text


def test_preflight_checks_models_that_are_there_or_yet_to_be_downloaded(folder, hub, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 100.0)  # a slow machine loads transformers in more than the limit
    hub.add_repo("model", "someone/any", COMMIT, {"config.json": json.dumps({"model_type": "bert"}).encode()})
    for downloads in ({}, {folder: ("model", {"repo": "someone/any", "revision": COMMIT})}):
        plan = Plan(downloads, overrides={folder: {"num_hiden_layers": 6, "hidden_dropout_prob": 0.2}})
        assert [(f.kind, f.text) for f in check_overrides(plan)] == [(PROBLEM, MESSAGE)]


def test_preflight_says_that_keys_could_not_be_checked(folder, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError):  # which becomes a warning
        list(check_overrides(Plan({}, overrides={folder: {"num_hiden_layers": 6}})))
