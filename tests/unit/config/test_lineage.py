"""Lineage: the models and questions behind each run, what is wrong with them, and the jobs that follow."""

import copy
import shutil

import pytest

from qa.common.errors import InputError
from qa.config import lineage, settings, stages
from qa.plan import code_digest as digest
from qa.plan import expected_jobs, rule_inputs
from qa.plan.code_digest import LIBRARY, code_digest

MODEL = {"path": "given/model"}
CONFIG = {
    "models": {"one": MODEL, "two": MODEL},
    "datasets": {"mills": {"splits": {name: f"{name}.json" for name in ("train", "more", "dev", "validation")}}},
    "decodings": {
        "calibrated": {"method": "n_best"},
        "at_0": {"method": "n_best", "null_threshold": 0.0},
        "walkthrough": {"method": "walkthrough"},
    },
    "defaults": {"hold_out": 0.1},
    "runs": {
        "small": {"model": "one", "train_on": "mills/train", "seeds": [1, 2], "decodings": ["calibrated", "at_0"]},
        "other": {"model": "two", "train_on": "mills/train", "seeds": [3], "decodings": ["at_0"]},
        "both": {"model": "one", "train_on": ["mills/train", "mills/more"], "decodings": ["calibrated"]},
        "ready": {"model": "two", "train_on": None, "decodings": ["walkthrough"]},
        "team": {"ensemble": ["small", "other/seed-3", "small/seed-2"], "decodings": ["calibrated"]},
        "pupil": {"model": "two", "train_on": "mills/train", "decodings": ["at_0"], "teacher": "team"},
    },
}
for run in CONFIG["runs"].values():
    run["evaluate_on"] = ["mills/validation"]
CONFIG["runs"]["theirs"] = {"answers": {"mills/validation": "theirs.json"}}


def changed(**runs):
    """The configuration with some keys of some runs changed, or new runs; None removes a key."""
    config = copy.deepcopy(CONFIG)
    for name, keys in runs.items():
        run = config["runs"].setdefault(name, {"evaluate_on": ["mills/validation"], "decodings": ["at_0"]})
        run.update(keys)
    return config


def resolved(**runs):
    return settings.resolve(changed(**runs))


SIDES = [("small", "seed-1"), ("team", "ensemble")]
TEAM = [("small", "seed-1"), ("small", "seed-2"), ("other", "seed-3")]


def test_variants_are_seeds_the_published_model_the_ensemble_or_answers_from_elsewhere():
    assert {name: lineage.variants(run) for name, run in resolved().all_runs.items()} == {
        "small": ["seed-1", "seed-2"],
        "other": ["seed-3"],
        "both": ["seed-42"],
        "ready": ["published"],
        "pupil": ["seed-42"],
        "team": ["ensemble"],
        "theirs": ["external"],
    }


def test_answers_from_elsewhere_need_a_file_and_the_questions_and_no_model():
    plain = resolved()
    assert [key[0:4] for key in lineage.scored(plain) if key[0] == "theirs"] == [
        ("theirs", "external", "mills/validation", "as_given")
    ]
    needed = rule_inputs.answering(plain, "theirs", "external", "mills/validation", "as_given")
    assert needed == {"spans": [], "questions": "results/questions/mills/validation.parquet"}
    assert rule_inputs.trained_on(plain, "theirs", "external") == []
    for asked in (("seed-1", "mills/validation"), ("external", "mills/dev")):
        with pytest.raises(InputError, match="theirs"):
            rule_inputs.answering(plain, "theirs", *asked, "as_given")
    with pytest.raises(InputError, match="run `small` has no variant `external`"):
        rule_inputs.answering(plain, "small", "external", "mills/validation", "at_0")


def test_questions_of_training_are_also_those_of_earlier_runs_and_of_teachers():
    config = resolved(
        first={"model": "one", "train_on": "mills/more", "hold_out": 0},
        second={"model": {"run": "first"}, "train_on": "mills/dev", "hold_out": 0},
        third={"model": {"run": "second"}, "train_on": "mills/train"},
        taught={"model": "one", "train_on": "mills/train", "teacher": "second"},
        mean={"ensemble": ["third", "other"]},
    )
    kept, more, dev = (f"results/questions/mills/{split}.parquet" for split in ("train@kept-0.1", "more", "dev"))
    for name, variant, files in (
        ("third", "seed-42", [kept, dev, more]),
        ("taught", "seed-42", [kept, dev, more]),
        ("mean", "ensemble", [kept, dev, more]),
        ("small", "seed-1", [kept]),
        ("ready", "published", []),
    ):
        assert rule_inputs.trained_on(config, name, variant) == files


def test_the_users_file_of_answers_must_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolved()
    config.models.clear()
    config.datasets.clear()
    with pytest.raises(
        InputError, match=r"config: runs\.theirs\.answers\.mills/validation: no such file: theirs\.json"
    ):
        settings.own_files(config)
    (tmp_path / "theirs.json").touch()
    assert settings.own_files(config) == {("answers", "theirs/mills/validation"): ["theirs.json"]}


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("small", TEAM[:2]),
        ("small/seed-2", [("small", "seed-2")]),
        ("ready", [("ready", "published")]),
        ("ready/published", [("ready", "published")]),
        ("team", TEAM),
    ],
)
def test_a_name_stands_for_all_variants_of_a_run_one_of_them_or_an_ensembles_models_once(name, models):
    assert sorted(lineage.parts_named(resolved(), name)) == sorted(models)


def test_a_variant_answers_by_its_own_spans_and_an_ensemble_by_those_of_its_models():
    plain = resolved()
    assert lineage.spans(plain, "small", "seed-1-latest", "mills/dev") == [
        "results/small/seed-1-latest/mills/dev/spans.parquet"
    ]
    assert lineage.spans(plain, "team", "ensemble", "mills/dev") == [
        f"results/{run}/{variant}/mills/dev/spans.parquet" for run, variant in lineage.parts(plain, "team", "ensemble")
    ]


def test_what_is_held_out_trains_nothing_and_calibrates():
    runs = resolved().runs
    assert lineage.training_splits(runs["both"]) == ["mills/train@kept-0.1", "mills/more@kept-0.1"]
    assert lineage.calibration_splits(runs["both"]) == ["mills/train@held-out-0.1", "mills/more@held-out-0.1"]
    assert lineage.training_splits(runs["ready"]) == lineage.calibration_splits(runs["ready"]) == []


def test_a_limit_counts_for_what_trains_calibrates_teaches_or_is_evaluated():
    config = changed(
        small={"train_on": "few/train", "calibrate_on": ["other/dev"]},
        team={"calibrate_on": ["other/dev"]},
        alone={"model": "one", "train_on": "mills/train"},
    )
    few = {"splits": {"train": "train.json", "dev": "dev.json"}}
    config["datasets"] |= {"few": few | {"limit": 9}, "other": few | {"limit": 5}, "unused": few | {"limit": 1}}
    plain = settings.resolve(config)
    assert lineage.limits(plain, "alone", ["mills/validation"]) == {}
    assert lineage.limits(plain, "alone", ["other/dev"]) == {"other": 5}
    for run in ("small", "team", "pupil"):
        assert lineage.limits(plain, run, ["mills/validation"]) == {"few": 9, "other": 5}
    for dataset in plain.datasets.values():  # a limit downloads nothing again
        assert "limit" not in stages.source(dataset)


def test_nothing_is_held_out_where_other_questions_calibrate_or_the_share_is_0():
    runs = resolved(
        small={"calibrate_on": ["mills/dev"]}, both={"hold_out": 0, "decodings": ["at_0"]}, team={"decodings": ["at_0"]}
    ).runs
    assert lineage.training_splits(runs["small"]) == ["mills/train"]
    assert lineage.calibration_splits(runs["small"]) == ["mills/dev"]
    assert lineage.training_splits(runs["both"]) == ["mills/train", "mills/more"]
    assert lineage.calibration_splits(runs["both"]) == []


def test_an_ensemble_is_calibrated_on_what_all_its_runs_held_out_or_on_its_own_splits():
    assert lineage.calibration_of(resolved(), "team") == ["mills/train@held-out-0.1"]
    own = resolved(team={"ensemble": ["small", "both"], "calibrate_on": ["mills/dev"]})
    assert lineage.calibration_of(own, "team") == ["mills/dev"]
    shared = {"calibrate_on": ["mills/dev"]}
    assert lineage.calibration_of(resolved(small=shared, other=shared), "team") == ["mills/dev"]


def test_the_order_of_calibrate_on_changes_nothing():
    splits = ["mills/dev", "mills/more"]
    found = []
    for order in (splits, splits[::-1]):
        config = resolved(small={"calibrate_on": order}, team={"calibrate_on": order})
        needed = [rule_inputs.calibration(config, run, part, "calibrated") for run, part in SIDES]
        found.append([needed, rule_inputs.training(config, "small", "seed-1")])
        found[-1] += [stages.answered_with(config, *side, "mills/validation", "calibrated") for side in SIDES]
    assert found[0] == found[1]


WRONG = {
    "no such run in an ensemble": (
        {"team": {"ensemble": ["small", "smal"]}},
        "config: runs.team.ensemble.1: no run `smal` among small, other",
    ),
    "no such variant": (
        {"team": {"ensemble": ["small/seed-9", "other"]}},
        "config: runs.team.ensemble.0: run `small` has no variant `seed-9`; it has seed-1, seed-2",
    ),
    "an ensemble of ensembles": (
        {"all": {"ensemble": ["team", "other"]}},
        "config: runs.all.ensemble.0: `team` is an ensemble itself; name its runs",
    ),
    "an ensemble of itself": (
        {"team": {"ensemble": ["small", "team"]}},
        "config: runs.team.ensemble.1: `team` is an ensemble itself",
    ),
    "a single model": ({"team": {"ensemble": ["other"]}}, "config: runs.team.ensemble: one model is no ensemble"),
    "one model twice": (
        {"team": {"ensemble": ["other", "other/seed-3"]}},
        "config: runs.team.ensemble: one model is no ensemble",
    ),
    "a walkthrough in an ensemble": (
        {"team": {"decodings": ["walkthrough"]}},
        "config: runs.team.decodings: `walkthrough` is not of method n_best",
    ),
    "an ensemble without models": ({"team": {"ensemble": []}}, "config: runs.team.ensemble: [] is empty"),
    "an ensemble with a model": ({"team": {"model": "one"}}, "config: runs.team: unknown key `model`"),
    "a seed of a run twice": (
        {"team": {"ensemble": ["small", "small"]}},
        "config: runs.team.ensemble: small is listed twice",
    ),
    "answers of others in an ensemble": (
        {"team": {"ensemble": ["small", "theirs"]}},
        "config: runs.team.ensemble.1: `theirs` has answers from a file",
    ),
    "answers of others as teacher": (
        {"pupil": {"teacher": "theirs"}},
        "config: runs.pupil.teacher: `theirs` has answers from a file",
    ),
    "answers to an unknown split": (
        {"theirs": {"answers": {"mills/nowhere": "a.json"}}},
        "config: runs.theirs.answers: no `nowhere` among dev, more, train",
    ),
    "a model with the decoding of answers from a file": (
        {"other": {"decodings": ["as_given"]}},
        "config: runs.other.decodings: no `as_given` among calibrated",
    ),
    "answers to no split": ({"theirs": {"answers": {}}}, "config: runs.theirs.answers: {} is empty"),
    "answers with a model": ({"theirs": {"model": "one"}}, "config: runs.theirs: unknown key `model`"),
    "calibrated on what is judged": (
        {"small": {"calibrate_on": ["mills/dev", "mills/validation"]}},
        "config: runs.small.calibrate_on: mills/validation is evaluated on too",
    ),
    "an ensemble calibrated on what is judged": (
        {"team": {"calibrate_on": ["mills/validation"]}},
        "config: runs.team.calibrate_on: mills/validation is evaluated on too",
    ),
    "an ensemble judged on what calibrates its runs": (
        {
            "small": {"calibrate_on": ["mills/dev"]},
            "other": {"calibrate_on": ["mills/dev"]},
            "team": {"evaluate_on": ["mills/dev"]},
        },
        "config: runs.team.evaluate_on: mills/dev calibrates it",
    ),
    "judged on what was held out of it": (
        {"small": {"evaluate_on": ["mills/train"]}},
        "config: runs.small.evaluate_on: mills/train@held-out-0.1 calibrates it",
    ),
    "a teacher that has seen what its pupil is judged on": (
        {"pupil": {"evaluate_on": ["mills/more"], "teacher": "both"}},
        "config: runs.pupil.teacher: run `both` trains on mills/more, which this run is evaluated or calibrated on",
    ),
    "a teacher whose own teacher has seen what the pupil is judged on": (
        {
            "small": {"evaluate_on": ["mills/validation"], "teacher": "both"},
            "pupil": {"evaluate_on": ["mills/more"], "teacher": "small"},
        },
        "config: runs.pupil.teacher: run `both` trains on mills/more, which this run is evaluated or calibrated on",
    ),
    "a teacher that has seen what calibrates its pupil": (
        {"pupil": {"decodings": ["calibrated"], "hold_out": 0.2, "teacher": "other"}},
        "config: runs.pupil.teacher: run `other` trains on held-out questions of mills/train",
    ),
    "calibrated on what was trained on": (
        {"both": {"calibrate_on": ["mills/more"]}},
        "config: runs.both.calibrate_on: run `both` trains on mills/more",
    ),
    "an ensemble calibrated on what one of its runs trains on": (
        {"team": {"ensemble": ["other", "both"], "calibrate_on": ["mills/more"]}},
        "config: runs.team.calibrate_on: run `both` trains on mills/more",
    ),
    "an ensemble calibrated on what an earlier run of one of its runs trains on": (
        {
            "both": {"model": {"run": "first"}, "train_on": "mills/train"},
            "first": {"model": "one", "train_on": "mills/more", "seeds": [42], "hold_out": 0},
            "team": {"ensemble": ["other", "both"], "calibrate_on": ["mills/more"]},
        },
        "config: runs.team.calibrate_on: run `first` trains on mills/more",
    ),
    "an ensemble calibrated on held-out questions that a teacher of one of its runs trains on": (
        {
            "all": {"model": "one", "train_on": "mills/train", "hold_out": 0},
            "other": {"teacher": "all"},
        },
        "config: runs.team.ensemble: run `other` learns from `all`, which trains on held-out questions of mills/train "
        "that calibrate the ensemble; give both the same hold_out, or name calibrate_on",
    ),
    "an unknown split calibrates": (
        {"small": {"calibrate_on": ["mills/nowhere"]}},
        "config: runs.small.calibrate_on: no `nowhere` among dev, more, train",
    ),
    "calibrated without questions": (
        {"small": {"hold_out": 0}},
        "a calibrated null_threshold, and the run holds no questions out; set hold_out above 0 or name calibrate_on",
    ),
    "a published model calibrated without questions": (
        {"ready": {"decodings": ["walkthrough", "calibrated"]}},
        "config: runs.ready.decodings: `calibrated` has a calibrated null_threshold, and the run holds no questions "
        "out; name calibrate_on, or choose",
    ),
    "an ensemble whose runs hold nothing out": (
        {"small": {"hold_out": 0, "decodings": ["at_0"]}, "other": {"hold_out": 0}},
        "config: runs.team.decodings: `calibrated` has a calibrated null_threshold",
    ),
    "runs that hold out different questions": (
        {"team": {"ensemble": ["other", "both"]}},
        "config: runs.team.ensemble: its runs `other` and `both` hold out different questions "
        "(mills/train@held-out-0.1; mills/train@held-out-0.1, mills/more@held-out-0.1); name `calibrate_on`",
    ),
    "runs that hold out different shares": (
        {"other": {"hold_out": 0.2}},
        "config: runs.team.ensemble: its runs `small` and `other` hold out different questions "
        "(mills/train@held-out-0.1; mills/train@held-out-0.2)",
    ),
    "an ensemble with a published model": (
        {"team": {"ensemble": ["other", "ready"]}},
        "hold out different questions (mills/train@held-out-0.1; none)",
    ),
    "no such teacher": ({"pupil": {"teacher": "team/x"}}, "config: runs.pupil.teacher: no run `team` among small"),
    "no such variant as teacher": (
        {"pupil": {"teacher": "small/seed-3"}},
        "config: runs.pupil.teacher: run `small` has no variant `seed-3`",
    ),
    "a teacher with an unknown teacher": (
        {"both": {"teacher": "pupil"}, "pupil": {"teacher": "nobody"}},
        "config: runs.pupil.teacher: no run `nobody` among",
    ),
    "its own teacher": (
        {"pupil": {"teacher": "pupil"}},
        "config: runs.pupil.teacher: a circle of teachers: pupil <- pupil",
    ),
    "a circle of teachers": (
        {"small": {"teacher": "pupil"}},
        "config: runs.small.teacher: a circle of teachers: small <- pupil <- small",
    ),
    "a circle that one of its students is not in": (
        {"both": {"teacher": "pupil"}, "other": {"teacher": "pupil/seed-42"}},
        "a circle of teachers: other <- pupil <- other",
    ),
    "a teacher of padded rows": (
        {"pupil": {"padding": "max_length"}},
        "config: runs.pupil.teacher: padding is part of the loss (padding: max_length)",
    ),
    "a teacher of what trains nothing": (
        {"ready": {"teacher": "small"}},
        "config: runs.ready.teacher: this run trains nothing (train_on: null)",
    ),
    "no such earlier run": (
        {"pupil": {"model": {"run": "smal"}}},
        "config: runs.pupil.model.run: no `smal` among small, other, both, ready, pupil; did you mean `small`?",
    ),
    "an earlier run in the place of a model": (
        {"pupil": {"model": "small"}},
        "config: runs.pupil.model: no `small` among one, two; for the model of that run write {run: small}",
    ),
    "an earlier run without its seed": (
        {"pupil": {"model": {"run": "small"}}},
        "config: runs.pupil.model: run `small` has no seed 42, only 1, 2; give both runs the same seeds, or name",
    ),
    "an earlier run without the seed that is named": (
        {"pupil": {"model": {"run": "small", "seed": 3}}},
        "config: runs.pupil.model: run `small` has no seed 3, only 1, 2",
    ),
    "an earlier run that trains nothing": (
        {"pupil": {"model": {"run": "ready"}}},
        "config: runs.pupil.model.run: run `ready` trains nothing (train_on: null); name its model instead",
    ),
    "an ensemble as earlier run": (
        {"pupil": {"model": {"run": "team"}}},
        "config: runs.pupil.model.run: `team` is an ensemble with no model of its own; name a run that trains one",
    ),
    "an earlier run of what trains nothing": (
        {"ready": {"model": {"run": "other"}}},
        "config: runs.ready.model.run: this run trains nothing (train_on: null); to score `other` on more splits",
    ),
    "an earlier run with an unknown key": (
        {"pupil": {"model": {"run": "small", "seeds": 1}}},
        "config: runs.pupil.model: unknown key `seeds`; did you mean `seed`?",
    ),
    "its own earlier run": (
        {"both": {"model": {"run": "both"}}},
        "config: runs.both.model: a circle of runs: both <- both",
    ),
    "a circle of a teacher and an earlier run": (
        {"other": {"model": {"run": "pupil", "seed": 42}}},
        "config: runs.pupil.teacher: a circle of teachers: pupil <- other <- pupil",
    ),
    "an earlier run that has seen what is judged": (
        {
            "both": {"evaluate_on": ["mills/dev"]},
            "small": {"model": {"run": "both", "seed": 42}},
            "pupil": {"model": {"run": "small", "seed": 1}, "evaluate_on": ["mills/more"], "teacher": None},
        },
        "config: runs.pupil.model: run `both` trains on mills/more, which this run is evaluated or calibrated on",
    ),
    "an early end without the best epoch": (
        {"small": {"training": {"early_stopping": 2}}},
        "config: runs.small.training.early_stopping: the last epoch is then not the best one; set keep_epoch: best",
    ),
    "a share held out of nothing": (
        {"ready": {"hold_out": 0.1}},
        "config: runs.ready.hold_out: this run trains nothing",
    ),
    "too large a share": (
        {"small": {"hold_out": 0.6}},
        "config: runs.small.hold_out: 0.6 is not allowed; it must be at most 0.5",
    ),
    "the same split twice": ({"both": {"train_on": ["mills/train"] * 2}}, "config: runs.both.train_on: "),
    "no split": ({"both": {"train_on": []}}, "config: runs.both.train_on: "),
    "a text as threshold": (
        {"x": {"model": "one", "train_on": "mills/train", "decodings": ["calibrate"]}},
        "config: runs.x.decodings: no `calibrate` among calibrated, at_0, walkthrough",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_named_by_its_key_path(case):
    runs, told = WRONG[case]
    with pytest.raises(InputError) as error:
        resolved(**runs)
    assert told in str(error.value)


ALLOWED = {
    "runs that hold out different questions, where nothing is calibrated": {
        "other": {"hold_out": 0.2},
        "team": {"decodings": ["at_0"]},
    },
    "an ensemble judged on what calibrates its runs, with a threshold of its own": {
        "small": {"calibrate_on": ["mills/dev"]},
        "other": {"calibrate_on": ["mills/dev"]},
        "team": {"evaluate_on": ["mills/dev"], "decodings": ["at_0"]},
    },
    "a published model as variant and as teacher": {
        "team": {"ensemble": ["ready", "other"], "decodings": ["at_0"]},
        "both": {"teacher": "ready"},
    },
    "a published model that is calibrated": {"ready": {"decodings": ["calibrated"], "calibrate_on": ["mills/dev"]}},
    "a seed of an earlier run, and the same seeds": {
        "pupil": {"model": {"run": "small", "seed": 2}},
        "both": {"model": {"run": "pupil"}},
    },
    "a teacher of a teacher": {"both": {"teacher": "pupil"}},
    "two students of one run": {"both": {"teacher": "other"}, "small": {"teacher": "other"}},
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_no_mistake_is_allowed(case):
    assert resolved(**ALLOWED[case]).runs


def test_a_run_goes_on_from_the_models_of_another_and_shares_its_windows():
    plain = resolved(
        more={"model": {"run": "small"}, "train_on": "mills/more", "seeds": [1, 2]},
        most={"model": {"run": "more", "seed": 2}, "train_on": "mills/dev", "seeds": [1, 5]},
    )
    models = {"more": ["small/seed-1", "small/seed-2"], "most": ["more/seed-2", "more/seed-2"]}
    for name, folders in models.items():
        run = plain.runs[name]
        needed = [rule_inputs.training(plain, name, variant) for variant in lineage.variants(run)]
        assert [files["model"] for files in needed] == [f"results/{folder}/model" for folder in folders]
        assert {files["pretrained"] for files in needed} == {"resources/models/one"}
        assert stages.windows_id(run) == stages.windows_id(plain.runs["small"])
    assert lineage.all_earlier(plain, "most", "seed-5") == [("small", "seed-2"), ("more", "seed-2")]
    assert "pretrained" not in rule_inputs.training(plain, "small", "seed-1")


def test_a_sweep_over_models_may_list_an_earlier_run():
    runs = resolved(pupil={"model": ["two", {"run": "small", "seed": 1}]}).runs
    assert [runs[f"pupil.model-{label}"].pretrained for label in ("two", "small-1")] == ["two", "one"]


def test_a_threshold_is_a_number_or_calibrated():
    config = changed()
    config["decodings"]["at_0"]["null_threshold"] = "calibrate"
    with pytest.raises(InputError, match=r"decodings\.at_0\.null_threshold: 'calibrate' is not allowed"):
        settings.resolve(config)


def test_a_swept_run_is_taught_and_held_out_in_each_combination():
    runs = resolved(pupil={"distillation": {"temperature": [1.0, 4.0], "weight": 0.9}, "hold_out": [0.1, 0.2]}).runs
    students = [run for name, run in runs.items() if name.startswith("pupil.")]
    assert len(students) == 4 and all(run.distillation.weight == 0.9 for run in students)
    assert {stages.soft_targets_key(run) for run in students} == {"team-1", "team-4"}
    assert {split for run in students for split in lineage.training_splits(run)} == {
        "mills/train@kept-0.1",
        "mills/train@kept-0.2",
    }


def test_predictions_are_those_that_are_scored_calibrate_or_teach():
    found = set(expected_jobs.predictions(resolved()))
    scored = {
        (part, "mills/validation")
        for part in [*TEAM, ("both", "seed-42"), ("ready", "published"), ("pupil", "seed-42")]
    }
    calibrating = {(part, "mills/train@held-out-0.1") for part in [*TEAM, ("both", "seed-42")]}
    teaching = {(part, "mills/train@kept-0.1") for part in TEAM}
    assert found == scored | calibrating | {(("both", "seed-42"), "mills/more@held-out-0.1")} | teaching
    assert len(expected_jobs.predictions(resolved())) == len(found)


def test_nothing_is_predicted_for_calibration_where_no_decoding_asks_for_it():
    plain = resolved(**{name: {"decodings": ["at_0"]} for name in ("small", "both", "team")}, pupil={"teacher": None})
    assert {split for _, split in expected_jobs.predictions(plain)} == {"mills/validation"}


def jobs(**runs):
    return expected_jobs.jobs(resolved(**runs))


def covered(wanted, found):
    return any(wanted.items() <= job.items() for job in found)


def test_every_kind_of_job_is_expected():
    plain, found = resolved(), jobs()
    key = {name: stages.windows_id(run) for name, run in plain.runs.items()}
    wanted = [
        {"kind": "models", "name": "one"},
        {"kind": "datasets", "name": "mills"},
        {"dataset": "mills", "split": "train"},  # its records
        {"dataset": "mills", "split": "more", "share": "0.1"},
        {"dataset": "mills", "split": "train@kept-0.1", "windows_id": key["small"]},
        {"dataset": "mills", "split": "train@kept-0.1", "windows_id": key["other"]},
        {"dataset": "mills", "split": "more@held-out-0.1", "windows_id": key["both"]},
        {"dataset": "mills", "split": "train@kept-0.1", "windows_id": key["pupil"], "soft_targets_key": "team-2"},
        {"run": "both", "variant": "seed-42"},
        {"run": "other", "variant": "seed-3", "dataset": "mills", "split": "train@held-out-0.1"},
        {"run": "team", "variant": "ensemble", "decoding": "calibrated"},  # its calibration
        {"run": "team", "variant": "ensemble", "dataset": "mills", "split": "validation", "decoding": "calibrated"},
        {"run": "theirs", "variant": "external", "dataset": "mills", "split": "validation", "decoding": "as_given"},
    ]
    assert [job for job in wanted if not covered(job, found)] == []


def test_no_job_is_expected_that_nobody_asked_for():
    found = jobs()
    unwanted = [
        {"dataset": "mills", "split": "dev"},
        {"dataset": "mills", "split": "validation", "share": "0.1"},
        {"run": "team", "variant": "seed-1"},
        {"run": "theirs", "variant": "seed-42"},
        {"run": "ready", "variant": "published", "split": "train@held-out-0.1"},
        {"run": "pupil", "variant": "seed-42", "split": "train@held-out-0.1"},
        {"split": "more@kept-0.1", "soft_targets_key": "team-2"},
    ]
    assert [job for job in unwanted if covered(job, found)] == []
    assert not any(
        "share" in job or "soft_targets_key" in job
        for job in jobs(
            small={"hold_out": 0, "decodings": ["at_0"]},
            other={"hold_out": 0},
            both={"hold_out": 0, "decodings": ["at_0"]},
            team={"decodings": ["at_0"]},
            pupil={"hold_out": 0, "teacher": None},
        )
    )


def test_a_teacher_with_a_slash_and_any_temperature_make_a_file_name():
    found = resolved(pupil={"teacher": "small/seed-2", "distillation": {"temperature": 0.25}})
    runs = found.runs
    assert stages.soft_targets_key(runs["pupil"]) == "small@seed-2-0.25"
    (file,) = rule_inputs.training(found, "pupil", "seed-42")["targets"]
    key = stages.windows_id(runs["pupil"])
    assert file == f"results/targets/mills/train@kept-0.1/{key}/small@seed-2-0.25.parquet"
    assert len(rule_inputs.training(resolved(both={"teacher": "other"}), "both", "seed-42")["targets"]) == 2


def test_training_reads_of_distillation_what_changes_it_and_only_with_a_teacher():
    plain = resolved()
    read = {name: stages.training(run, plain).get("distillation") for name, run in plain.runs.items()}
    assert read.pop("pupil") == {"weight": 0.5, "temperature": 2.0} and set(read.values()) == {None}


def test_answering_does_not_read_how_a_threshold_is_found():
    decoding = resolved().decodings["calibrated"]
    assert stages.answering(decoding) == {
        "method": "n_best",
        "n_best_size": 20,
        "max_answer_length": 30,
        "null_threshold": "calibrated",
    }
    assert decoding.calibrate_for == "f1" and decoding.unanswerable_prior is None


def test_where_the_best_epoch_is_kept_the_code_that_tells_it_counts_as_trainings(tmp_path):
    """A run that keeps the last epoch is trained anew for no change in what only measures it."""
    library = tmp_path / "qa"
    shutil.copytree(LIBRARY, library)
    runs = resolved(small={"training": {"keep_epoch": "best"}}).runs
    assert rule_inputs.measuring(runs["other"]) == ""
    before = code_digest(library / "training" / "epochs.py", library)
    assert rule_inputs.measuring(runs["small"]) == code_digest(LIBRARY / "training" / "epochs.py") == before
    for module, changes in (
        ("decoding/null_threshold", True),
        ("decoding/postprocess", True),
        ("evaluation/slices", False),
    ):
        file = library / f"{module}.py"
        file.write_text(file.read_text() + "\nADDED = 1\n")
        digest.code_digest.cache_clear()
        digest._tree.cache_clear(), digest._essence.cache_clear(), digest._imports.cache_clear()
        assert (code_digest(library / "training" / "epochs.py", library) != before) is changes
        before = code_digest(library / "training" / "epochs.py", library)
