"""Calibrated decodings, ensembles, a pupil and a training on two splits, through the whole workflow."""

import copy
import csv
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest

from chain import QUALITY
from qa.common.files import sha256_of_folder
from qa.model.window_dataset import read_targets
from qa.windows.read_windows import arrow_table

KEPT, HELD_OUT = "mills/train@kept-0.45", "mills/train@held-out-0.45"
TEAM = "results/team/ensemble"


def read(project, *parts):
    return json.loads(project.path(*parts).read_text())


def windows_of(project, split, model):
    (folder,) = project.path("results/windows", split).glob(f"{model}-*")
    return folder


def ids(project, split):
    return parquet.read_table(project.path(f"results/questions/{split}.parquet"), columns=["id"])["id"].to_pylist()


@pytest.fixture
def altered():
    """The configuration QUALITY, free to change."""
    return copy.deepcopy(QUALITY)


def test_every_run_leaves_the_files_that_are_documented(improved):
    variants = {"seeded": ["seed-1", "seed-2"], "team": ["ensemble"], "seeds": ["ensemble"]}
    variants |= {run: ["seed-1"] for run in ("bytes", "pupil", "joint")}
    names = ("answers.json", "null_scores.json", "no_answer_probabilities.json", "nbest.parquet", "metrics.json")
    names += ("slices.csv", "errors.parquet")
    wanted = [
        f"results/{run}/{variant}/{split}/{decoding}/{name}"
        for run, each in variants.items()
        for variant in each
        for split in QUALITY["runs"][run]["evaluate_on"]
        for decoding in QUALITY["runs"][run]["decodings"]
        for name in names
    ]
    wanted += [f"results/seeded/seed-{seed}/calibration/calibrated.json" for seed in (1, 2)]
    wanted += [f"{TEAM}/calibration/calibrated.{kind}" for kind in ("json", "parquet")]
    wanted += [f"results/questions/{split}.parquet" for split in (KEPT, HELD_OUT)]
    assert [name for name in wanted if not improved.path(name).is_file()] == []
    assert (
        not improved.path(TEAM, "model").exists() and not improved.path(TEAM, "mills/validation/spans.parquet").exists()
    )
    assert not [path for path in improved.path("results").rglob("*.partial*")]


def test_a_finished_chain_has_nothing_to_do(improved):
    assert improved.would_run() == set()


def test_a_question_is_held_out_or_trained_on_and_never_both(improved):
    kept, held_out = ids(improved, KEPT), ids(improved, HELD_OUT)
    assert sorted(kept + held_out) == sorted(ids(improved, "mills/train")) and kept and held_out
    for variant in ("seeded/seed-1", "seeded/seed-2", "bytes/seed-1", "pupil/seed-1"):
        manifest = read(improved, f"results/{variant}/manifest.json")
        assert all("/mills/train@kept-0.45/" in folder for folder in manifest["inputs"]["windows"])
        assert manifest["training_windows"] == len(
            arrow_table(windows_of(improved, KEPT, manifest["run_settings"]["model"]))
        )


def test_a_training_on_two_splits_has_the_windows_of_both(improved):
    manifest = read(improved, "results/joint/seed-1/manifest.json")
    folders = [windows_of(improved, f"mills/{split}", "one") for split in ("train", "extra")]
    assert manifest["training_windows"] == sum(len(arrow_table(folder)) for folder in folders)
    assert list(manifest["inputs"]["windows"]) == [str(folder.relative_to(improved.folder)) for folder in folders]


def test_a_run_goes_on_from_the_model_of_another(improved):
    manifest = read(improved, "results/joint/seed-1/manifest.json")
    seeded = "results/seeded/seed-1/model"
    assert manifest["inputs"]["model"] == sha256_of_folder(improved.path(seeded))
    assert (
        "(run seeded, seed-1), then fine-tuned on"
        in improved.path("results/joint/seed-1/package/README.md").read_text()
    )
    assert "model of run seeded, mills/train" in improved.path("results/report.html").read_text()


@pytest.mark.parametrize("variant", ["seeded/seed-1", "seeded/seed-2", "team/ensemble"])
def test_answers_of_a_calibrated_decoding_follow_the_calibrated_threshold(variant, improved):
    found = read(improved, f"results/{variant}/calibration/calibrated.json")
    assert found["questions"] == len(ids(improved, HELD_OUT)) and 0 < found["unanswerable"] < 100
    folder = improved.path(f"results/{variant}/mills/validation/calibrated")
    answers, differences = read(improved, folder / "answers.json"), read(improved, folder / "null_scores.json")
    assert {key: bool(text) for key, text in answers.items()} == {
        key: value <= found["null_threshold"] for key, value in differences.items()
    }
    same = read(improved, f"results/{variant}/mills/validation/n_best/null_scores.json")
    assert differences == same, "a calibrated decoding weighs the same candidates"


def test_an_ensemble_of_other_tokenizers_answers_with_the_mean_of_its_variants_probabilities(improved):
    split = "mills/validation/n_best/nbest.parquet"
    variants = [
        parquet.read_table(improved.path("results", variant, split)).to_pylist()
        for variant in ("seeded/seed-1", "seeded/seed-2", "bytes/seed-1")
    ]
    together = parquet.read_table(improved.path(TEAM, split)).to_pylist()
    assert len(together) == 10
    for number, row in enumerate(together):
        mean = {}
        for variant in variants:
            assert variant[number]["id"] == row["id"]
            for each in variant[number]["candidates"]:
                span = each["start"], each["stop"]
                mean[span] = mean.get(span, 0.0) + each["probability"] / 3
        null = sum(variant[number]["null_probability"] for variant in variants) / 3
        best = sorted(mean.values(), reverse=True)[:20]
        # scores are logarithms of the means; listed probabilities those of the candidates that are kept
        assert [np.exp(each["score"]) for each in row["candidates"]] == pytest.approx(best)
        assert np.exp(row["null_score"]) == pytest.approx(null)
        assert row["null_probability"] == pytest.approx(null / (null + sum(best)))
        for each in row["candidates"]:
            assert np.exp(each["score"]) == pytest.approx(mean[each["start"], each["stop"]])


def test_a_pupil_learns_from_soft_targets_of_its_own_windows(improved):
    (file,) = improved.path("results/targets").rglob("*.parquet")
    folder = windows_of(improved, KEPT, "bytes")
    assert file == improved.path("results/targets", KEPT, folder.name, "team-2.parquet")
    targets = read_targets([str(file)], len(arrow_table(folder)))
    assert targets["start_weights"].sum(axis=1) == pytest.approx(1) and (targets["start_weights"][:, 0] < 0.999).any()
    manifest = read(improved, "results/pupil/seed-1/manifest.json")
    assert list(manifest["inputs"]["targets"]) == [str(file.relative_to(improved.folder))]
    assert manifest["settings"]["distillation"] == {"weight": 0.5, "temperature": 2.0}
    untaught = read(improved, "results/bytes/seed-1/manifest.json")
    assert "targets" not in untaught["inputs"] and "distillation" not in untaught["settings"]


def test_ensembles_and_pupils_stand_in_the_tables(improved):
    summary = list(csv.DictReader(improved.path("results/summary.csv").read_text().splitlines()))
    assert {(row["run"], row["decoding"], row["seeds"]) for row in summary} >= {
        ("seeded", "calibrated", "2"),
        ("team", "calibrated", "1"),
        ("seeds", "n_best", "1"),
        ("pupil", "n_best", "1"),
        ("joint", "n_best", "1"),
    }
    rows = list(csv.DictReader(improved.path("results/resource_usage.csv").read_text().splitlines()))
    counts = {
        rule: sum(row["rule"] == rule for row in rows)
        for rule in ("hold_out_calibration", "calibrate", "soft_targets", "train")
    }
    assert counts == {"hold_out_calibration": 1, "calibrate": 3, "soft_targets": 1, "train": 5}
    assert {row["state"] for row in rows} == {"completed"}


ANSWERED_ANEW = {
    "postprocess",
    "analyze_errors",
    "score",
    "summarize",
    "compare",
    "package",
    "resource_usage",
    "report",
}


@pytest.mark.parametrize("change", [{"calibrate_for": "exact"}, {"unanswerable_prior": 0.5}])
def test_calibrating_otherwise_trains_and_predicts_nothing(change, improved, altered):
    altered["decodings"]["calibrated"] |= change
    assert improved.would_run(altered) == {"calibrate", *ANSWERED_ANEW}


def test_another_share_is_held_out_and_trained_anew(improved, altered):
    altered["runs"]["pupil"]["hold_out"] = 0.4
    assert improved.would_run(altered, "results/pupil/seed-1/model") == {
        "hold_out_calibration",
        "tokenize_and_label",
        "predict",
        "soft_targets",
        "train",
    }


def test_a_threshold_of_ones_own_trains_nothing_and_calibrates_nothing(improved, altered):
    altered["decodings"]["calibrated"]["null_threshold"] = 1.5
    assert improved.would_run(altered) == ANSWERED_ANEW


def test_another_weight_or_teacher_leaves_the_other_runs_alone(improved, altered):
    altered["runs"]["pupil"]["distillation"] = {"weight": 1.0}
    _, printed = improved.dry_run("-n", config=improved.configure(altered, "changed.yaml"))
    trained = {line.split("Fine-tuning ")[1] for line in printed.splitlines() if "Fine-tuning" in line}
    assert trained == {"pupil, seed-1"} and "soft targets" not in printed


WRONG = {
    "results/nobody/seed-1/mills/validation/n_best/answers.json": "no run `nobody` in the configuration; there are",
    "results/nobody/seed-1/mills/validation/n_best/slices.csv": "no run `nobody` in the configuration; there are",
    "results/nobody/seed-1/calibration/calibrated.json": "no run `nobody` in the configuration; there are",
    "results/team/seed-1/mills/validation/n_best/answers.json": "run `team` has no variant `seed-1`; it has ensemble",
    "results/seeded/ensemble/mills/validation/n_best/answers.json": "run `seeded` has no variant `ensemble`; it has",
    "results/joint/seed-1/calibration/calibrated.json": "nothing to calibrate: run `joint` holds no questions out",
    "results/seeded/seed-1/calibration/n_best.json": "nothing to calibrate: ",
    f"results/targets/{KEPT}/k/nobody-2.parquet": "no run has soft targets nobody-2; there are team-2",
    "results/questions/mills/test@kept-0.45.parquet": "no split `mills/test` in the configuration",
}


@pytest.mark.parametrize("target", WRONG)
def test_a_target_that_cannot_be_is_refused_by_name(target, improved):
    code, printed = improved.dry_run("-n", target)
    assert code != 0 and WRONG[target] in printed, printed
