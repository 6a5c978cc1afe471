"""The configuration: strict, merged for each run, and cut into exactly what each stage reads."""

import copy
import re

import pytest
import yaml

from qa.common.errors import InputError
from qa.config import reference, settings

CONFIG = yaml.safe_load((settings.SCHEMA_FILE.parents[2] / "config" / "config.yaml").read_text())
ROOT = settings.SCHEMA_FILE.parents[2]


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    node = config
    for key in parents:
        node = node.setdefault(key, {})
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return config


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml", "trial.yaml"])
def test_the_shipped_configurations_are_right(name):
    assert settings.resolve(yaml.safe_load((ROOT / "config" / name).read_text()))["runs"]


def test_a_run_is_the_schemas_defaults_then_the_defaults_then_its_own():
    config = changed("defaults.training", {"epochs": 5, "batch_size": 32})
    config["runs"]["baseline"]["training"] = {"epochs": 7}
    training = settings.resolve(config)["runs"]["baseline"]["training"]
    assert (training["epochs"], training["batch_size"], training["learning_rate"]) == (7, 32, 2e-5)


def test_the_baseline_is_the_walkthroughs():
    run = settings.resolve(CONFIG)["runs"]["baseline"]
    assert run["windows"] == {
        "max_length": 384,
        "overlap": 128,
        "max_question_length": None,
        "long_contexts": "truncate",
        "labels": "walkthrough",
    }
    expected = {"epochs": 3, "max_steps": None, "batch_size": 16, "accumulation_steps": 1, "learning_rate": 2e-5}
    expected |= {"schedule": "linear", "warmup": 0, "weight_decay": 0.01, "max_gradient_norm": 1.0}
    expected |= {
        "attention_dropout": None,
        "keep_epoch": "last",
        "compile": "graphs",
        "gpus": 1,
        "nodes": 1,
    }
    assert run["training"] == expected
    assert (run["precision"], run["padding"], run["decodings"][0]) == ("fp32", "max_length", "walkthrough")
    assert run["validate_on"] == "squad_v2/validation" and run["checkpoints"]["every_steps"] == 500


WRONG = {
    "mistyped": (
        "runs.baseline.training.lerning_rate",
        1,
        r"runs\.baseline\.training: unknown key .*did you mean `learning_rate`",
    ),
    "unknown": ("runs.baseline.gpu", 1, r"runs\.baseline: unknown key `gpu`; allowed: model, train_on"),
    "unknown at the top": ("trainings", {}, r"top level: unknown key `trainings`"),
    "too small": ("runs.baseline.training.learning_rate", -1, r"runs\.baseline\.training\.learning_rate: -1"),
    "a text": ("defaults.windows.overlap", "many", r"defaults\.windows\.overlap: 'many' is not of type 'integer'"),
    "no choice": ("defaults.precision", "int8", r"defaults\.precision: 'int8' is not one of \['fp32', 'tf32'"),
    "a branch": ("models.roberta-base.revision", "main", r"revision: 'main' is not allowed; a commit is 40 hex"),
    "no revision": ("models.roberta-base.revision", ..., r"models\.roberta-base: needs one source"),
    "two sources": ("models.roberta-base.path", "here", r"models\.roberta-base: needs one source"),
    "no dataset revision": ("datasets.squad_v2.revision", ..., r"datasets\.squad_v2: `repo` and `revision` go"),
    "a path as name": ("runs", {"../x": CONFIG["runs"]["baseline"]}, r"runs: '\.\./x' is not allowed; a name has"),
    "a reserved name": ("runs.windows", CONFIG["runs"]["baseline"], r"runs\.windows: the name is taken"),
    "no such model": ("runs.baseline.model", "bert", r"runs\.baseline\.model: no `bert` among roberta-base"),
    "no such split": (
        "runs.baseline.train_on",
        "squad_v2/test",
        r"baseline\.train_on: no `test` among train, validation",
    ),
    "no such dataset": ("runs.baseline.evaluate_on", ["x/y"], r"baseline\.evaluate_on: no `x` among squad_v2"),
    "no split": ("runs.baseline.train_on", "squad_v2", r"train_on: 'squad_v2' is not allowed; a split is written"),
    "no such decoding": ("runs.baseline.decodings", ["best"], r"baseline\.decodings: no `best` among"),
    "no room": ("runs.roberta-base.windows", {"overlap": 320}, r"roberta-base\.windows: max_length 384 leaves no room"),
    "odd parts": (
        "defaults.training.accumulation_steps",
        3,
        r"accumulation_steps 3 x gpus 1 x nodes 1 does not divide batch_size 16",
    ),
    "walkthrough with a threshold": ("decodings.walkthrough.null_threshold", 1, r"walkthrough.*takes no such key"),
    "seed twice": ("runs.baseline.seeds", [1, 1], r"runs\.baseline\.seeds: \[1, 1\] has non-unique"),
    "a split without a dataset": ("runs.baseline.validate_on", "squad_v2", r"validate_on: .* written `dataset/split`"),
    "no files": ("datasets.squad_v2.splits.train", [], r"squad_v2\.splits\.train: \[\] should be non-empty"),
    "a directory beside a repository": (
        "models.roberta-base.directory",
        "x",
        r"models\.roberta-base: needs one source",
    ),
    "a number as key": ("runs.baseline.training", {5: 1}, r"runs\.baseline\.training: the key 5 is no text"),
    "not a number": ("defaults.training.learning_rate", float("nan"), r"training\.learning_rate: nan is no finite"),
    "half a seed": ("runs.baseline.seeds", [1.5], r"runs\.baseline\.seeds\.0: 1\.5 is not of type 'integer'"),
    "a dataset's reserved name": (
        "datasets.model",
        CONFIG["datasets"]["squad_v2"],
        r"datasets\.model: the name is taken",
    ),
    "no runs": ("runs", {}, r"runs: \{\} should be non-empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_named_by_key_path_and_what_is_allowed(case):
    path, value, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        settings.resolve(changed(path, value))


def test_learning_rates_as_people_write_them_are_numbers():
    config = changed("defaults.training.learning_rate", yaml.safe_load("3e-5"))
    assert config["defaults"]["training"]["learning_rate"] == "3e-5"
    assert settings.resolve(config)["runs"]["roberta-base"]["training"]["learning_rate"] == 3e-5


def test_whole_numbers_written_as_decimals_are_whole():
    config = changed("runs.baseline.seeds", [1.0])
    config["defaults"]["training"]["batch_size"] = 16.0
    run = settings.resolve(config)["runs"]["baseline"]
    assert settings.variants(run) == ["seed-1"] and repr(run["training"]["batch_size"]) == "16"


def test_overrides_as_people_write_them_are_numbers():
    models = settings.resolve(changed("models.roberta-base.overrides", {"hidden_dropout_prob": "1e-1"}))["models"]
    assert models["roberta-base"]["overrides"] == {"hidden_dropout_prob": 0.1}


def test_paths_below_home_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    assert settings.local_files({"path": "~/m"}, "models.x") == [str(tmp_path / "m" / "config.json")]
    assert settings.local_files({"splits": {"a": "~/m/config.json"}}, "d") == [str(tmp_path / "m" / "config.json")]


def test_windows_are_shared_by_runs_of_equal_settings_and_no_others():
    config = changed("runs.again", copy.deepcopy(CONFIG["runs"]["roberta-base"]))
    config["runs"]["again"]["training"] = {"epochs": 1}
    config["runs"]["baseline"]["windows"]["overlap"] = 7
    runs = settings.resolve(config)["runs"]
    assert settings.windows_id(runs["again"]) == settings.windows_id(runs["roberta-base"])
    assert settings.windows_id(runs["baseline"]) != settings.windows_id(runs["roberta-base"])
    before = settings.resolve(CONFIG)["runs"]["baseline"]
    assert settings.windows_id(runs["baseline"]) == settings.windows_id(before), "truncation has no overlap"


def test_epochs_without_effect_are_no_part_of_what_training_reads():
    config = changed("defaults.training.max_steps", 10)
    resolved = settings.resolve(config)
    assert "epochs" not in settings.training(resolved["runs"]["baseline"], resolved["models"])


def test_every_key_of_the_schema_has_a_description_and_says_what_reruns():
    missing = [
        name
        for name, node in reference.every_key()
        if not node.get("description") or ("x-reruns" not in node and node.get("type") != "object")
    ]
    assert not missing


def test_the_table_in_the_readme_is_the_schemas():
    readme = (ROOT / "config" / "README.md").read_text()
    written = re.search(r"<!-- keys -->\n(.*?)\n<!-- /keys -->", readme, re.S)
    assert written and written[1].strip() == reference.reference().strip(), "run: make config-reference"
