"""The configuration: strict, merged for each run, and cut into exactly what each stage reads."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from qa.common.errors import InputError
from qa.config import lineage, messages, reference, schema, settings, stages
from qa.hub import download
from qa.report.comparison import differing

ROOT = Path(__file__).parents[3]
CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


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


def test_params_do_not_depend_on_the_order_of_keys():
    pairs = [("num_hidden_layers", 6), ("hidden_dropout_prob", 0.2)]
    resolved = [settings.resolve(changed("models.roberta-base.overrides", dict(each))) for each in (pairs, pairs[::-1])]
    first, other = (str(stages.training(each.runs["baseline"], each)) for each in resolved)
    assert first == other


def test_params_do_not_depend_on_how_a_number_is_written_or_on_whether_a_default_is():
    read = []
    whole = {"epochs": 3, "warmup": 0, "attention_dropout": 0, "max_gradient_norm": 1}  # as the defaults
    for number in (int, float, str, None):
        config = changed("defaults.training", {key: number(value) for key, value in whole.items()} if number else {})
        resolved = settings.resolve(config)
        read.append(str(stages.training(resolved.runs["roberta-base"], resolved)))
    assert len({*read}) == 1


def test_the_encoders_are_compared_with_the_run_of_the_real_experiment():
    encoders = settings.resolve(yaml.safe_load((ROOT / "config" / "encoders.yaml").read_text())).runs
    assert len({tuple(run.seeds) for run in encoders.values() if run.seeds}) == 1
    ours, shipped = encoders["roberta-base"], settings.resolve(CONFIG).runs["roberta-base"]
    assert ours.model_dump(exclude={"decodings", "checkpoints"}) == shipped.model_dump(
        exclude={"decodings", "checkpoints"}
    )


# rung of config/ablation.yaml -> the settings in which it differs from the rung before
RUNGS = {
    "baseline/threshold_0": {"decoding"},
    "exact_labels/threshold_0": {"windows.labels"},
    "all_windows/threshold_0": {"windows.long_contexts", "windows.max_question_length"},
    "packed_bf16/threshold_0": {"precision", "padding"},
    "no_attention_dropout/threshold_0": {"training.attention_dropout"},
    "warmup/threshold_0": {"training.warmup"},
    "roberta-base/threshold_0": {"hold_out"},
    "roberta-base/n_best": {"decoding.null_threshold"},
    "roberta-base/prior_half": {"decoding.unanswerable_prior"},
}


def test_each_rung_of_the_ablation_changes_one_thing_of_the_rung_before_and_is_compared_with_it():
    written = (ROOT / "config" / "ablation.yaml").read_text()
    ablation, shipped = settings.resolve(yaml.safe_load(written)), settings.resolve(CONFIG)
    assert [pair[0] for pair in ablation.compare] == list(RUNGS) and ablation.compare_to is None
    assert [pair[1] for pair in ablation.compare] == ["baseline/walkthrough", *list(RUNGS)[:-1]]
    for rung, before in ablation.compare:
        names = zip(("run", "decoding"), rung.split("/"), before.split("/"), strict=True)
        row = {key: value for name, own, its in names for key, value in ((name, own), (f"reference_{name}", its))}
        found = {key for key, *_ in differing(ablation, row)}
        if rung == "baseline/threshold_0":  # another method has other keys
            found = {key.split(".")[0] for key in found}
        assert found == RUNGS[rung] and f"#   {rung} " in written
    for name in ("baseline", "roberta-base"):  # so that no training is repeated
        assert ablation.runs[name] == shipped.runs[name]
    assert {len(run.seeds) for run in ablation.runs.values()} == {3} and len(lineage.trainings(ablation)) == 21
    assert ablation.models == shipped.models and ablation.datasets == shipped.datasets
    assert ablation.decodings == shipped.decodings


def test_a_run_is_the_schemas_defaults_then_the_defaults_then_its_own():
    config = changed("defaults.training", {"epochs": 5, "batch_size": 32})
    config["runs"]["baseline"]["training"] = {"epochs": 7}
    training = settings.resolve(config).runs["baseline"].training
    assert (training.epochs, training.batch_size, training.learning_rate) == (7, 32, 2e-5)


def test_the_baseline_is_the_walkthroughs():
    run = settings.resolve(CONFIG).runs["baseline"]
    assert run.windows.model_dump() == {
        "max_length": 384,
        "overlap": 128,
        "max_question_length": None,
        "long_contexts": "truncate",
        "labels": "walkthrough",
        "answers": "first",
    }
    expected = {"epochs": 3, "max_steps": None, "batch_size": 16, "accumulation_steps": 1, "learning_rate": 2e-5}
    expected |= {"schedule": "linear", "warmup": 0, "weight_decay": 0.01, "max_gradient_norm": 1.0}
    expected |= {
        "attention_dropout": None,
        "keep_epoch": "last",
        "early_stopping": None,
        "questions": None,
        "lora_rank": None,
        "lora_alpha": 32,
        "compile": "graphs",
        "gradient_checkpointing": False,
        "gpus": 1,
        "nodes": 1,
    }
    assert run.training.model_dump() == expected
    assert (run.precision, run.padding, run.decodings[0]) == ("fp32", "max_length", "walkthrough")
    assert run.validate_on == "squad_v2/validation" and run.checkpoints.every_steps == 500


WRONG = {
    "mistyped": (
        "runs.baseline.training.lerning_rate",
        1,
        r"runs\.baseline\.training: unknown key .*did you mean `learning_rate`",
    ),
    "unknown": ("runs.baseline.gpu", 1, r"runs\.baseline: unknown key `gpu`; allowed: model, train_on"),
    "unknown at the top": ("trainings", {}, r"top level: unknown key `trainings`"),
    "too small": ("runs.baseline.training.learning_rate", -1, r"learning_rate: -1 is not allowed; it must be above 0"),
    "a text": ("defaults.windows.overlap", "many", r"defaults\.windows\.overlap: 'many' is no whole number"),
    "no choice": ("defaults.precision", "int8", r"defaults\.precision: 'int8' is not allowed; allowed: fp32, tf32"),
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
    "all answers with the walkthrough's labels": (
        "runs.baseline.windows.answers",
        "all",
        r"runs\.baseline\.windows: `answers: all` needs labels: exact, not walkthrough",
    ),
    "no such dataset": ("runs.baseline.evaluate_on", ["x/y"], r"baseline\.evaluate_on: no `x` among squad_v2"),
    "no split": (
        "runs.baseline.train_on",
        "squad_v2",
        r"train_on\.0: 'squad_v2' is not allowed; a split is written",
    ),
    "no such decoding": ("runs.baseline.decodings", ["best"], r"baseline\.decodings: no `best` among"),
    "no room": ("runs.roberta-base.windows", {"overlap": 320}, r"roberta-base\.windows: max_length 384 leaves no room"),
    "odd parts": (
        "defaults.training.accumulation_steps",
        3,
        r"accumulation_steps 3 x gpus 1 x nodes 1 does not divide batch_size 16",
    ),
    "walkthrough with a threshold": (
        "decodings.walkthrough.null_threshold",
        1,
        r"walkthrough: unknown key `null_threshold`; allowed: method",
    ),
    "seed twice": ("runs.baseline.seeds", [1, 1], r"runs\.baseline\.seeds: 1 is listed twice"),
    "a split without a dataset": ("runs.baseline.validate_on", "squad_v2", r"validate_on: .* a split is written"),
    "no files": ("datasets.squad_v2.splits.train", [], r"squad_v2\.splits\.train: \[\] is empty"),
    "a directory beside a repository": (
        "models.roberta-base.directory",
        "x",
        r"models\.roberta-base: needs one source",
    ),
    "a number as key": ("runs.baseline.training", {5: 1}, r"runs\.baseline\.training: the key 5 is no text"),
    "not a number": ("defaults.training.learning_rate", float("nan"), r"training\.learning_rate: nan is no finite"),
    "half a seed": ("runs.baseline.seeds", [1.5], r"runs\.baseline\.seeds\.0: 1\.5 is no whole number"),
    "a dataset's reserved name": (
        "datasets.model",
        CONFIG["datasets"]["squad_v2"],
        r"datasets\.model: the name is taken",
    ),
    "no runs": ("runs", {}, r"runs: \{\} is empty; name at least one"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_named_by_key_path_and_what_is_allowed(case):
    path, value, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        settings.resolve(changed(path, value))


def test_learning_rates_as_people_write_them_are_numbers():
    config = changed("defaults.training.learning_rate", yaml.safe_load("3e-5"))
    assert config["defaults"]["training"]["learning_rate"] == "3e-5"
    assert settings.resolve(config).runs["roberta-base"].training.learning_rate == 3e-5


def test_whole_numbers_written_as_decimals_are_whole():
    config = changed("runs.baseline.seeds", [1.0])
    config["defaults"]["training"]["batch_size"] = 16.0
    run = settings.resolve(config).runs["baseline"]
    assert lineage.variants(run) == ["seed-1"] and repr(run.training.batch_size) == "16"


def test_overrides_as_people_write_them_are_numbers():
    models = settings.resolve(changed("models.roberta-base.overrides", {"hidden_dropout_prob": "1e-1"})).models
    assert models["roberta-base"].overrides == {"hidden_dropout_prob": 0.1}


def test_paths_below_home_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    file = str(tmp_path / "m" / "config.json")
    assert settings.local_files(schema.PretrainedModel(path="~/m"), "models.x") == [file]
    assert settings.local_files(schema.Dataset(splits={"a": "~/m/config.json"}), "datasets.d") == [file]


def test_of_a_models_folder_only_the_files_count_that_are_taken(tmp_path):
    """So that nothing trains again where pickles, a Trainer's state or a .DS_Store come or go."""
    shards = ["model-00001-of-00002.safetensors", download.CONFIG, download.WEIGHTS, download.INDEX, download.CARD]
    taken = sorted({*shards, *download.VOCABULARIES, *download.TOKENIZER_EXTRAS})
    for name in [*taken, ".DS_Store", "pytorch_model.bin", "optimizer.pt", "training_args.bin", "train.log"]:
        (tmp_path / name).touch()
    found = settings.local_files(schema.PretrainedModel(path=str(tmp_path)), "models.m")
    assert found == [str(tmp_path / name) for name in taken]


def test_braces_in_the_path_of_an_own_file_are_refused_with_the_key(tmp_path):
    (tmp_path / "m").mkdir()
    for file in (tmp_path / "v{1}.json", tmp_path / "m" / "{x}"):
        file.touch()
    dataset = schema.Dataset(splits={"train": str(tmp_path / "v{1}.json")})
    with pytest.raises(InputError, match=r"config: datasets\.d\.splits\.train: .*v\{1\}\.json: .*rename"):
        settings.local_files(dataset, "datasets.d")
    with pytest.raises(InputError, match=r"config: models\.m\.path: .*\{x\}: .*rename"):
        settings.local_files(schema.PretrainedModel(path=str(tmp_path / "m")), "models.m")


def test_windows_are_shared_by_runs_of_equal_settings_and_no_others():
    config = changed("runs.again", copy.deepcopy(CONFIG["runs"]["roberta-base"]))
    config["runs"]["again"]["training"] = {"epochs": 1}
    config["runs"]["baseline"]["windows"]["overlap"] = 7
    runs = settings.resolve(config).runs
    assert stages.windows_id(runs["again"]) == stages.windows_id(runs["roberta-base"])
    assert stages.windows_id(runs["baseline"]) != stages.windows_id(runs["roberta-base"])
    before = settings.resolve(CONFIG).runs["baseline"]
    assert stages.windows_id(runs["baseline"]) == stages.windows_id(before), "truncation has no overlap"


def test_epochs_without_effect_are_no_part_of_what_training_reads():
    config = changed("defaults.training.max_steps", 10)
    resolved = settings.resolve(config)
    assert "epochs" not in stages.training(resolved.runs["baseline"], resolved)


def test_text_from_the_command_line_is_read_as_numbers_truth_values_and_null():
    config = changed("defaults.training", {"max_steps": "12", "learning_rate": "3e-5", "warmup": "0.1"})
    config["defaults"]["checkpoints"] = {"keep_after_success": "true", "keep": "3.0"}
    config["defaults"]["deterministic"] = "True"
    config["defaults"]["windows"] = {"max_question_length": "null"}
    config["runs"]["roberta-base"]["seeds"] = ["1", "2"]
    config["decodings"]["threshold_0"]["null_threshold"] = "-0.5"
    resolved = settings.resolve(config)
    run = resolved.runs["roberta-base"]
    assert (run.training.max_steps, run.training.learning_rate, run.training.warmup) == (12, 3e-5, 0.1)
    assert (run.checkpoints.keep_after_success, run.checkpoints.keep, run.deterministic) == (True, 3, True)
    assert (run.windows.max_question_length, run.seeds) == (None, [1, 2])
    assert resolved.decodings["threshold_0"].null_threshold == -0.5


def test_a_text_where_a_list_belongs_says_what_to_write():
    config = changed("runs.baseline.evaluate_on", "squad_v2/validation")
    config["runs"]["baseline"]["seeds"] = 42
    with pytest.raises(InputError) as error:
        settings.resolve(config)
    assert "evaluate_on: 'squad_v2/validation' is no list; write [squad_v2/validation]" in str(error.value)
    assert "seeds: 42 is no list; write [42]" in str(error.value)


def test_all_mistakes_are_told_at_once_and_those_of_the_defaults_once():
    config = changed("defaults.training.batch_size", 0)
    config["models"]["roberta-base"]["revision"] = "main"
    config["runs"]["baseline"]["precision"] = "fp8"
    config["runs"]["roberta-base"] |= {"sees": [1], "windows": {"overlap": -1}}
    config["runs"]["ensemble"]["decodings"] = []
    with pytest.raises(InputError) as error:
        settings.resolve(config)
    places = [line.split(": ")[1] for line in str(error.value).split("\n")]
    assert sorted(places) == [
        "defaults.training.batch_size",
        "models.roberta-base.revision",
        "runs.baseline.precision",
        "runs.ensemble.decodings",
        "runs.roberta-base",
        "runs.roberta-base.windows.overlap",
    ]


def test_all_mistakes_between_parts_are_told_at_once():
    config = changed("runs.baseline.model", "bert")
    config["runs"]["roberta-base"] |= {"decodings": ["best"], "evaluate_on": ["squad_v2/test"]}
    with pytest.raises(InputError) as error:
        settings.resolve(config)
    assert str(error.value).count("config: runs.") == 3


@pytest.mark.parametrize("config", [{}, {**CONFIG, "datasets": {}}, {**CONFIG, "runs": None}])
def test_a_part_that_is_missing_or_empty_says_what_a_minimal_configuration_looks_like(config):
    with pytest.raises(InputError) as error:
        settings.resolve(config)
    example = str(error.value).partition("A minimal configuration:\n")[2]
    assert settings.resolve(yaml.safe_load(example)).runs["first"].train_on == ["mine/train"]


def test_files_are_checked_and_merged_as_snakemake_does(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.json"
    first.write_text(messages.MINIMAL.partition("\n")[2])
    second.write_text(json.dumps({"runs": {"first": {"training": {"epochs": 1}}}, "defaults": {"hold_out": 0.2}}))
    run = settings.check([first, second]).runs["first"]
    assert (run.model, run.training.epochs, run.hold_out) == ("roberta-base", 1, 0.2)
    assert yaml.safe_load(settings.as_yaml(run.model_dump()))["training"]["batch_size"] == 16
    for text, message in (("", "A minimal configuration"), ("[1]", "no keys at the top"), ("a: 1\na: 2", "line 2")):
        first.write_text(text)
        with pytest.raises(InputError, match=message):
            settings.check([first])


def test_all_keys_that_are_twice_in_a_file_are_named_at_once(tmp_path):
    file = tmp_path / "my.yaml"
    as_yaml = "runs:\n  a: {x: 1,\n    x: 2}\nmodels: {}\nruns: {}\nruns: {}\n"
    as_json = '{"runs": {\n"a": {"x": 1,\n"x": 2}},\n"models": {},\n"runs": {},\n"runs": {}}'
    for text in (as_yaml, as_json):
        file.write_text(text)
        with pytest.raises(InputError) as error:
            settings.resolve(CONFIG, [file])
        assert [line.partition(";")[0] for line in str(error.value).split("\n")] == [
            f"config: {file}, line {line}: the key `{key}` is there twice, first in line {first}"
            for line, key, first in ((3, "x", 2), (5, "runs", 1), (6, "runs", 1))
        ]


def test_a_target_that_snakemake_takes_for_a_configuration_file_is_told_as_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    Path("results/metrics.json").write_text('{"f1": 1.0}')
    with pytest.raises(InputError, match="put targets before --configfile"):
        settings.resolve(CONFIG, [Path("results/metrics.json")])


def test_every_key_has_a_description():
    assert not [key.path for key in reference.every_key() if not key.description]


def test_the_documents_and_the_editors_schema_are_written_from_the_models():
    """Where they drift apart: make config-reference."""
    written = reference.TABLE.search((ROOT / "docs" / "configuration.md").read_text())
    assert written and written[0].strip() == reference.table()
    assert json.loads((ROOT / "config" / "schema.json").read_text()) == reference.editors_schema()


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=lambda file: file.name)
def test_the_shipped_configurations_are_right_name_the_schema_and_fit_it(file):
    assert settings.resolve(yaml.safe_load(file.read_text())).runs
    jsonschema = pytest.importorskip("jsonschema")
    text = file.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.Draft202012Validator(reference.editors_schema()).validate(yaml.safe_load(text))


def test_the_editors_schema_has_sweeps_and_refuses_mistyped_keys():
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(reference.editors_schema())
    assert validator.is_valid(changed("runs.baseline.training.learning_rate", [1e-5, 2e-5]))
    assert validator.is_valid(changed("runs.baseline.model", ["roberta-base"]))
    drawn = changed("runs.baseline.training.learning_rate", {"log_uniform": [1e-5, 1e-4]})
    drawn["runs"]["baseline"]["draws"] = 12
    assert validator.is_valid(drawn)
    assert not validator.is_valid(changed("runs.baseline.training.learning_rate", {"lognormal": [1e-5, 1e-4]}))
    assert not validator.is_valid(changed("runs.baseline.training.lerning_rate", 1e-5))
    assert not validator.is_valid(changed("runs.baseline.precision", "int8"))
