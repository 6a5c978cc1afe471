"""Sweeps: lists of values become runs, a run a combination, under names that people can read."""

import copy
import csv
import itertools
import json
import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qa.common.errors import InputError
from qa.config import fields, lineage, schema, settings, sweeps
from qa.evaluation import summarize

BASE = yaml.safe_load((Path(__file__).parents[3] / "config" / "config.yaml").read_text())
BASE["runs"] = {"plain": BASE["runs"]["roberta-base"]}
BASE["models"]["other"] = BASE["models"]["roberta-base"]
SETTABLE = settings.settable()
NAME = re.compile(fields.NAME)
LONGEST = fields.LONGEST_NAME


def sweeping(text, **more):
    """The configuration with a run `lr` that has the settings of a YAML text, and more runs like it."""
    config = copy.deepcopy(BASE)
    for name, own in {"lr": text, **more}.items():
        config["runs"][name] = {**copy.deepcopy(BASE["runs"]["plain"]), **yaml.safe_load(own)}
    return config


def test_values_of_one_setting_are_a_run_each_named_as_the_values_were_written():
    resolved = settings.resolve(sweeping("training: {learning_rate: [2e-5, 3.0e-5, 0.0001], epochs: 2}"))
    assert list(resolved.runs) == [
        "plain",
        "lr.learning_rate-2e-5",
        "lr.learning_rate-3e-5",
        "lr.learning_rate-0.0001",
    ]
    trained = [resolved.runs[name].training for name in list(resolved.runs)[1:]]
    assert [(run.learning_rate, run.epochs) for run in trained] == [(2e-5, 2), (3e-5, 2), (0.0001, 2)]
    assert resolved.sweeps == {
        "lr": {f"lr.learning_rate-{value}": {"learning_rate": value} for value in ("2e-5", "3e-5", "0.0001")}
    }


def test_lists_of_several_settings_are_their_product_in_the_order_of_the_schema():
    text = "{precision: [fp32, bf16], model: [roberta-base, other], windows: {max_question_length: [64, null]}}"
    runs = settings.resolve(sweeping(text)).runs
    expected = {
        f"lr.model-{model}.precision-{precision}.max_question_length-{length}": (model, precision, number)
        for model in ("roberta-base", "other")
        for precision in ("fp32", "bf16")
        for length, number in (("64", 64), ("null", None))
    }
    found = {
        name: (run.model, run.precision, run.windows.max_question_length)
        for name, run in runs.items()
        if name != "plain"
    }
    assert found == expected


def test_two_settings_of_one_name_are_told_apart_and_training_has_the_short_one():
    resolved = settings.resolve(sweeping("{training: {batch_size: [8]}, prediction: {batch_size: [32, 64]}}"))
    assert list(resolved.sweeps["lr"]) == [
        "lr.batch_size-8.prediction.batch_size-32",
        "lr.batch_size-8.prediction.batch_size-64",
    ]
    run = resolved.runs["lr.batch_size-8.prediction.batch_size-32"]
    assert (run.training.batch_size, run.prediction.batch_size) == (8, 32)


def test_every_setting_of_one_value_can_be_swept_and_lists_that_say_something_else_cannot():
    run = schema.Run.model_fields
    assert {"model", "precision", "padding", "windows.overlap", "training.epochs", "checkpoints.keep"} <= set(SETTABLE)
    kept = {"train_on", "validate_on", "evaluate_on", "decodings", "seeds"}
    assert (
        kept <= run.keys()
        and not kept & set(SETTABLE)
        and not {"distillation", "windows", "training", "prediction", "checkpoints", "report_to", "publish"}
        & set(SETTABLE)
    )


def test_what_lists_nothing_stays_as_it_is():
    config, found = sweeps.expanded(copy.deepcopy(BASE), SETTABLE, LONGEST)
    assert config == BASE and found == {}
    assert settings.resolve(BASE).sweeps == {}


WRONG = {
    "a list under defaults": (
        {"defaults": {"training": {"learning_rate": [1e-5, 2e-5]}}},
        "{}",
        r"defaults\.training\.learning_rate: a list .* runs\.NAME\.training\.learning_rate",
    ),
    "an empty list": ({}, "training: {epochs: []}", r"runs\.lr\.training\.epochs: the list is empty"),
    "a value twice": ({}, "training: {epochs: [1, 2, 1.0]}", r"runs\.lr\.training\.epochs: 1 is listed twice"),
    "a value twice in two ways": (
        {},
        "training: {learning_rate: [20e-6, 0.00002]}",
        r"runs\.lr\.training\.learning_rate: 2e-5 is listed twice",
    ),
    "too many": (
        {},
        f"{{windows: {{overlap: {list(range(40))}}}, training: {{epochs: {list(range(1, 41))}}}}}",
        r"runs\.lr: 1,600 combinations of its lists; at most 1,000",
    ),
    "a wrong value": (
        {},
        "training: {learning_rate: [2e-5, -1]}",
        r"config: runs\.lr\.training\.learning_rate: -1 is not .*\(in its combination `lr\.learning_rate--1`\)",
    ),
    "a value of the wrong kind": (
        {},
        "precision: [fp32, int8]",
        r"config: runs\.lr\.precision: 'int8' is not allowed; .*\(in its combination `lr\.precision-int8`\)",
    ),
    "a list within a list": ({}, "precision: [[fp32]]", r"config: runs\.lr\.precision: \['fp32'\] is not allowed"),
    "no such model": ({}, "model: [roberta-base, bert]", r"config: runs\.lr\.model: no `bert` among"),
    "a combination that does not go together": (
        {},
        "training: {batch_size: [8, 9], accumulation_steps: [1, 2]}",
        r"config: runs\.lr\.training: accumulation_steps 2 .* batch_size 9 \(in .*`lr\.batch_size-9\.accum\S*-2`\)",
    ),
    "mistyped": (
        {},
        "training: {lerning_rate: [1, 2]}",
        r"config: runs\.lr\.training: unknown key `lerning_rate`; did you mean `learning_rate`\?$",
    ),
    "mistyped beside lists": (
        {},
        "{training: {lerning_rate: 1}, precision: [fp32, bf16]}",
        r"\Aconfig: runs\.lr\.training: unknown key [^\n]*\(in its combination `lr\.precision-[a-z0-9]*`\)\Z",
    ),
    "a list of splits to validate on": (
        {},
        "validate_on: [squad_v2/train, squad_v2/validation]",
        r"config: runs\.lr\.validate_on",
    ),
    "a distribution under defaults": (
        {"defaults": {"training": {"epochs": {"uniform": [1, 2]}}}},
        "{}",
        r"defaults\.training\.epochs: a distribution .* runs\.NAME\.training\.epochs",
    ),
    "a distribution without draws": (
        {},
        "training: {epochs: {uniform: [1, 2]}}",
        r"config: runs\.lr\.draws: None .*training\.epochs is drawn at random.* from 1 to 1,000",
    ),
    "draws without a distribution": ({}, "{draws: 12}", r"config: runs\.lr\.draws: no setting has a distribution"),
    "no draws": ({}, "{draws: 0, precision: {choice: [fp32]}}", r"config: runs\.lr\.draws: 0 is not allowed"),
    "draws that are a part": ({}, "{draws: 1.5, precision: {choice: [fp32]}}", r"config: runs\.lr\.draws: 1\.5 is not"),
    "a seed that is none": (
        {},
        "{draws: 1, draw_seed: x, precision: {choice: [fp32]}}",
        r"config: runs\.lr\.draw_seed: 'x' is no whole number",
    ),
    "too many lists and draws": (
        {},
        "{draws: 600, training: {epochs: {uniform: [1, 9]}}, precision: [fp32, bf16]}",
        r"runs\.lr: 1,200 combinations of its lists",
    ),
    "bounds in the wrong order": (
        {},
        "{draws: 2, training: {learning_rate: {uniform: [2e-5, 1e-5]}}}",
        r"config: runs\.lr\.training\.learning_rate\.uniform: \['2e-5', '1e-5'\] is not .* two numbers, the lower",
    ),
    "a logarithm of nothing": (
        {},
        "{draws: 2, training: {weight_decay: {log_uniform: [0, 0.1]}}}",
        r"config: runs\.lr\.training\.weight_decay\.log_uniform: .* two numbers above 0",
    ),
    "parts of tokens": (
        {},
        "{draws: 2, windows: {overlap: {uniform: [1.5, 9]}}}",
        r"overlap\.uniform: .* whole numbers",
    ),
    "three bounds": (
        {},
        "{draws: 2, training: {epochs: {uniform: [1, 2, 3]}}}",
        r"epochs\.uniform: \[1, 2, 3\] is not",
    ),
    "one bound": ({}, "{draws: 2, training: {epochs: {uniform: 3}}}", r"training\.epochs\.uniform: 3 is not allowed"),
    "a mistyped distribution": (
        {},
        "{draws: 2, training: {epochs: {log_unifrom: [1, 2]}}}",
        r"config: runs\.lr\.training\.epochs: .* is no distribution; did you mean `log_uniform`\?",
    ),
    "two distributions": ({}, "{draws: 2, training: {epochs: {uniform: [1, 2], choice: [3]}}}", "is no distribution"),
    "a choice of nothing": (
        {},
        "{draws: 2, precision: {choice: []}}",
        r"runs\.lr\.precision\.choice: the list is empty",
    ),
    "a choice twice": ({}, "{draws: 2, precision: {choice: [fp32, fp32]}}", r"precision\.choice: fp32 is listed twice"),
    "fewer points than draws": ({}, "{draws: 3, precision: {choice: [fp32, bf16]}}", r"runs\.lr\.draws: only 2 of 3"),
    "a drawn value that is wrong": (
        {},
        "{draws: 2, training: {learning_rate: {uniform: [-2, -1]}}}",
        r"config: runs\.lr\.training\.learning_rate: -1\.\d+ is not .*\(in its combination `lr\.draw-1`\)",
    ),
    "an infinite value": (
        {},
        "training: {epochs: [1, .inf]}",
        r"runs\.lr\.training\.epochs\.1: inf is no finite number",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_names_the_run_as_written_and_the_key(case):
    more, text, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        settings.resolve({**sweeping(text), **more})


DRAWN = """
draws: 12
seeds: [1, 2]
windows: {overlap: {uniform: [16, 18]}}
training: {learning_rate: {log_uniform: [1e-5, 1e-4]}, weight_decay: {uniform: [0, 0.1]}}
precision: {choice: [fp32, bf16, tf32]}
"""


def drawn(text):
    """The values of the points of the run `lr`, by name."""
    return settings.resolve(sweeping(text)).sweeps["lr"]


def test_draws_are_the_same_for_ever_and_more_of_them_keep_the_first():
    found = drawn(DRAWN)
    assert list(found) == [f"lr.draw-{number}" for number in range(1, 13)]
    # a change of these values trains every search again
    assert [found[f"lr.draw-{number}"]["learning_rate"] for number in (1, 2, 12)] == ["1.29e-5", "1.77e-5", "1.55e-5"]
    assert found["lr.draw-3"] == {
        "precision": "bf16",
        "overlap": "18",
        "learning_rate": "7.32e-5",
        "weight_decay": "0.00497",
    }
    more = drawn(DRAWN.replace("12", "20"))
    assert len(more) == 20 and found.items() <= more.items()
    lines = DRAWN.strip().split("\n")
    assert drawn("\n".join(reversed(lines))) == found
    without = drawn("\n".join(line for line in lines if "precision" not in line))
    assert [each["weight_decay"] for each in without.values()] == [each["weight_decay"] for each in found.values()]
    other = drawn(f"{DRAWN}draw_seed: 1")
    assert all(other[name]["learning_rate"] != values["learning_rate"] for name, values in found.items())


def test_drawn_values_follow_their_distribution_and_take_both_bounds_of_whole_numbers():
    found = sweeps.expanded(sweeping(DRAWN.replace("12", "999")), SETTABLE, LONGEST)[0]["runs"]
    runs = [run for name, run in found.items() if name != "plain"]
    for values, low, high in (
        ([math.log10(run["training"]["learning_rate"]) for run in runs], -5, -4),
        ([run["training"]["weight_decay"] for run in runs], 0, 0.1),
        ([run["windows"]["overlap"] for run in runs], 15.5, 18.5),
        ([["fp32", "bf16", "tf32"].index(run["precision"]) for run in runs], -0.5, 2.5),
    ):
        assert low <= min(values) and max(values) <= high
        quarters = [sum(value < low + (high - low) * part for value in values) / 999 for part in (1 / 3, 2 / 3)]
        assert quarters == pytest.approx([1 / 3, 2 / 3], abs=0.05)
    assert {run["windows"]["overlap"] for run in runs} == {16, 17, 18}
    small = settings.resolve(sweeping("{draws: 3, windows: {overlap: {log_uniform: [1, 3]}}}"))
    assert sorted(each["overlap"] for each in small.sweeps["lr"].values()) == ["1", "2", "3"], "points differ"


def test_lists_and_draws_are_combined_and_each_value_of_a_list_has_the_same_draws():
    text = "{model: [roberta-base, other], draws: 2, training: {learning_rate: {log_uniform: [1e-5, 1e-4]}}}"
    assert drawn(text) == {
        f"lr.model-{model}.draw-{number}": {"model": model, "learning_rate": rate}
        for model in ("roberta-base", "other")
        for number, rate in ((1, "1.29e-5"), (2, "1.77e-5"))
    }


def test_the_example_of_the_guide_makes_the_runs_that_it_names():
    guide = (Path(__file__).parents[3] / "config" / "README.md").read_text()
    example = guide.split("### Values at random")[1].split("\n\n    runs:\n")[1].split("\n\n")[0]
    search = yaml.safe_load(example)["search"]
    assert list(settings.resolve({**BASE, "runs": {"search": search}}).runs) == [
        f"search.draw-{number}" for number in range(1, search["draws"] + 1)
    ]


def test_how_many_points_were_drawn_is_no_setting_of_a_run_that_was_drawn():
    few, more = (settings.resolve(sweeping(DRAWN.replace("12", count))).runs["lr.draw-1"] for count in ("2", "3"))
    assert few.model_dump() == more.model_dump() and "draw" not in settings.as_yaml(few.model_dump())


def test_a_name_that_is_taken_is_refused():
    config = sweeping("training: {epochs: [1, 2]}", **{"lr.epochs-2": "{}"})
    with pytest.raises(InputError, match=r"runs\.lr\.epochs-2: another run has the name `lr\.epochs-2` already"):
        settings.resolve(config)


def test_a_name_that_gets_too_long_is_refused_with_what_to_do():
    config = copy.deepcopy(BASE)
    config["runs"]["x" * 70] = {**BASE["runs"]["plain"], "training": {"learning_rate": [1e-5, 2e-5]}}
    with pytest.raises(InputError, match=r"a name of more than 80 characters; give the run a shorter name"):
        settings.resolve(config)


def test_runs_that_are_no_mappings_are_left_to_the_schema():
    for runs in ([], None, "lr", {"lr": None}, {"lr": {"training": [1, 2]}}, {"lr": []}):
        with pytest.raises(InputError, match="runs"):
            settings.resolve({**BASE, "runs": runs})


WRITTEN = {
    "2e-5": "2e-5",
    "2.0e-5": "2e-5",
    "0.00003": "3e-5",
    "0.1": "0.1",
    "16": "16",
    "16.0": "16",
    "1.0e+16": "1e16",
    "1e+16": "1e16",
    "null": "null",
    "true": "true",
    "none": "none",
    "bf16": "bf16",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_values_are_told_as_people_write_them(text):
    assert sweeps.as_text(yaml.safe_load(text)) == WRITTEN[text]


values = {
    "windows.overlap": st.integers(0, 200),
    "precision": st.sampled_from(["fp32", "tf32", "bf16", "fp16"]),
    "training.learning_rate": st.floats(1e-7, 1.0),
    "training.max_steps": st.one_of(st.none(), st.integers(1, 10**6)),
    "training.batch_size": st.integers(1, 999),
    "prediction.batch_size": st.integers(1, 999),
    "checkpoints.keep_after_success": st.booleans(),
}
lists = st.lists(st.sampled_from(sorted(values)), unique=True, max_size=3).flatmap(
    lambda paths: st.fixed_dictionaries(
        {path: st.lists(values[path], unique=True, min_size=1, max_size=4) for path in paths}
    )
)


def put(run, path, value):
    *groups, key = path.split(".")
    for group in groups:
        run = run.setdefault(group, {})
    run[key] = value


@given(lists, lists)
def test_an_expansion_is_the_whole_product_under_valid_names_that_differ(first, second):
    config = copy.deepcopy(BASE)
    for name, swept in (("a", first), ("b", second)):
        config["runs"][name] = {"model": "roberta-base"}
        for path, listed in swept.items():
            put(config["runs"][name], path, listed)
    before = copy.deepcopy(config)
    expanded, found = sweeps.expanded(config, SETTABLE, 200)
    assert config == before, "what was given is not changed"
    assert found.keys() == {name for name, swept in (("a", first), ("b", second)) if swept}
    assert len(expanded["runs"]) == 1 + sum(math.prod(map(len, swept.values())) for swept in (first, second))
    assert all(NAME.fullmatch(name) for name in expanded["runs"])
    wanted = []
    for swept in (first, second):
        for chosen in itertools.product(*swept.values()):
            run = {"model": "roberta-base"}
            for path, value in zip(swept, chosen, strict=True):
                put(run, path, value)
            wanted.append(json.dumps(run, sort_keys=True))
    made = [json.dumps(run, sort_keys=True) for name, run in expanded["runs"].items() if name != "plain"]
    assert sorted(made) == sorted(wanted)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_can_be_read_back_from_what_tells_it(value):
    assert float(sweeps.as_text(value)) == value


TOLD = {
    "1 training: 1 run x 1 seed": ({}, {"a": [1]}),
    "6 trainings: 2 runs x 3 seeds": ({}, {"a": [1, 2, 3], "b": [1, 2, 3]}),
    "3 trainings: 2 runs x 1 to 2 seeds": ({}, {"a": [1, 2], "b": [1]}),
    "3 trainings: 3 runs x 1 seed (sweep: s x 2)": (
        {"s": {"s.1": {}, "s.2": {}}},
        {"s.1": [1], "s.2": [1], "b": [1]},
    ),
    "2 trainings: 2 runs x 1 seed (sweep: s x 1, t x 1)": (
        {"s": {"s.1": {}}, "t": {"t.1": {}}, "published": {"p.1": {}}},
        {"s.1": [1], "t.1": [1]},
    ),
    "No trainings: no run trains a model": ({}, {}),
}


@pytest.mark.parametrize("text", TOLD)
def test_the_number_of_trainings_is_told_in_a_line(text):
    found, seeds = TOLD[text]
    trainings = [(run, f"seed-{seed}") for run, each in seeds.items() for seed in each]
    assert sweeps.trainings_message(found, trainings) == text


def test_the_summary_has_a_column_for_each_swept_setting(tmp_path):
    resolved = settings.resolve(sweeping("training: {learning_rate: [2e-5, 3e-5]}", two="padding: [longest]"))
    (tmp_path / "m.json").write_text(json.dumps({"exact": 50.0}))
    scored = list(lineage.scored(resolved))
    files = [str(tmp_path / "m.json")] * len(scored)
    summarize.summarize(
        scored,
        files,
        tmp_path / "s.csv",
        {run: values for runs in resolved.sweeps.values() for run, values in runs.items()},
    )
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert list(rows[0])[:7] == [*summarize.KEYS, "learning_rate", "padding", "seeds"]
    found = {row["run"]: (row["learning_rate"], row["padding"]) for row in rows}
    assert found == {
        "plain": ("", ""),
        "lr.learning_rate-2e-5": ("2e-5", ""),
        "lr.learning_rate-3e-5": ("3e-5", ""),
        "two.padding-longest": ("", "longest"),
    }


def test_an_ensemble_that_names_a_sweep_has_all_its_combinations():
    config = sweeping("{training: {learning_rate: [2e-5, 3e-5]}, seeds: [1, 2]}")
    shared = {key: BASE["runs"]["plain"][key] for key in ("evaluate_on",)} | {"decodings": ["threshold_0"]}
    config["runs"] |= {"all": {"ensemble": ["lr"], **shared}, "firsts": {"ensemble": ["lr/seed-1", "plain"], **shared}}
    ensembles = settings.resolve(config).ensembles
    assert ensembles["all"].ensemble == ["lr.learning_rate-2e-5", "lr.learning_rate-3e-5"]
    assert ensembles["firsts"].ensemble == ["lr.learning_rate-2e-5/seed-1", "lr.learning_rate-3e-5/seed-1", "plain"]


def test_a_sweep_that_is_named_twice_is_refused_as_any_run_is():
    config = sweeping("training: {learning_rate: [2e-5, 3e-5]}")
    config["runs"]["twice"] = {
        "ensemble": ["lr", "lr"],
        "evaluate_on": ["squad_v2/validation"],
        "decodings": ["n_best"],
    }
    with pytest.raises(InputError, match="runs.twice.ensemble"):
        settings.resolve(config)
