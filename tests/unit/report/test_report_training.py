"""The report's training section, on histories and manifests as training writes them."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from qa.common.files import read_json, write_json
from qa.report import training
from qa.report.figures import Figures
from qa.report.results import Model, Results
from qa.report.training import CURVES
from report_fixture import make_results

pytestmark = pytest.mark.slow

LOSS, VALIDATION, CALIBRATION, RATE, SPEED, NORM = CURVES
HISTORY = "results/{}/{}/training.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return folder, make_results(folder, questions=12, runs={"base": [1, 2], "large": [1]})


@pytest.fixture
def results(made, tmp_path, monkeypatch):
    folder, config = made
    for model in Results(config).models:
        shutil.copytree(folder / model.folder, tmp_path / model.folder)
    monkeypatch.chdir(tmp_path)
    return Results(config)


def section(results, tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    return training.section(results, Figures(folder)), sorted(path.stem for path in folder.glob("*.csv"))


def with_attempts(results, *attempts):
    """Let the first model have attempts of (resumed at, last step, outcome)."""
    file = results.models[0].folder / "manifest.json"
    names = ("resumed_at_step", "step", "outcome")
    write_json(file, {**read_json(file), "attempts": [dict(zip(names, attempt, strict=True)) for attempt in attempts]})


def drawn(curve, data):
    axes = Figure().subplots()
    training._draw(curve, axes, data)
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_each_run_has_its_figures_and_each_model_its_row(results, tmp_path):
    found, files = section(results, tmp_path)
    assert (found.id, found.title) == ("training", "Training")
    names = [curve.name for curve in CURVES]
    assert files == sorted(f"training+{run}+{name}" for run in ("base", "large") for name in names)
    assert found.body.count("<figure>") == 12
    assert re.findall(r'<th scope="row">(.*?)</th>', found.body) == ["base / seed-1", "base / seed-2", "large / seed-1"]


def test_the_table_says_what_the_manifest_and_the_history_say(results):
    manifest, history = read_json("results/base/seed-2/manifest.json"), pd.read_csv(HISTORY.format("base", "seed-2"))
    row = training.row(results, Model("base", "seed-2"))
    assert row["loss"] == history["loss"].iloc[-1] and row["epochs"] == 2.0 and row["device"] == "1 × Some GPU"
    assert (row["steps"], row["seconds"], row["rate"]) == (400, 600, manifest["samples_per_second"])
    assert (row["memory"], row["gpu_memory"], row["attempts"]) == (1.2, 3.4, 2)


@pytest.mark.parametrize("curve", [LOSS, VALIDATION, SPEED, NORM], ids=lambda curve: curve.name)
def test_what_is_drawn_and_saved_is_what_was_logged(curve, results, tmp_path):
    section(results, tmp_path)
    saved = pd.read_csv(tmp_path / "figures" / f"training+base+{curve.name}.csv")
    lines = drawn(curve, saved)
    for variant in ("seed-1", "seed-2"):
        logged = pd.read_csv(HISTORY.format("base", variant))[["step", curve.columns[0]]].dropna().to_numpy()
        for found in (lines[variant], saved.loc[saved["series"] == variant, ["step", "value"]]):
            np.testing.assert_allclose(found, logged, rtol=1e-12)  # pandas 2 reads the last digit of a CSV inexactly


@pytest.mark.parametrize(
    ("settings", "loss", "scores"),
    [
        ({}, "Loss on questions held out of training.", "(EM) on questions held out of training,"),
        ({"calibrate_on": ["d/dev"]}, "Loss on the questions of d/dev.", "(EM) on the questions of d/dev,"),
        ({"validate_on": "d/test"}, "Loss on the questions of d/test.", "(EM) on questions held out of training,"),
    ],
)
def test_a_figure_names_the_questions_behind_it(settings, loss, scores, results, tmp_path):
    runs = {name: run.model_copy(update=settings) for name, run in results.config.runs.items()}
    body = section(Results(results.config.model_copy(update={"runs": runs})), tmp_path)[0].body
    assert loss in body and scores in body


def test_scores_on_held_out_questions_are_two_lines_a_seed(results):
    data = training.curve_data(results, results.models[:2], CALIBRATION)
    logged = pd.read_csv(HISTORY.format("base", "seed-2")).dropna(subset=["calibration_f1"])
    lines = drawn(CALIBRATION, data)
    assert set(lines) == {"seed-1 F1", "seed-1 EM", "seed-2 F1", "seed-2 EM", "resumed"}
    np.testing.assert_array_equal(lines["seed-2 EM"], logged[["step", "calibration_exact"]])


def test_seeds_that_are_the_same_are_one_line(results):
    data = training.curve_data(results, results.models[:2], RATE)
    assert set(drawn(RATE, data)) == {"all 2 seeds", "resumed"}
    rates = pd.read_csv(HISTORY.format("base", "seed-1"))["learning_rate"]
    np.testing.assert_allclose(drawn(RATE, data)["all 2 seeds"][:, 1], 1e5 * rates)


def test_a_training_is_marked_where_it_went_on_after_each_interruption(results, tmp_path):
    with_attempts(results, (0, 97, "killed"), (90, 250, "interrupted"), (250, 260, "failed"), (0, 400, "completed"))
    expected = [("killed", 97, 90), ("interrupted", 250, 250), ("failed", 260, 0)]
    attempts = results.manifest(results.models[0])["attempts"]
    assert [tuple(found.values()) for found in training.interruptions(attempts)] == expected
    data = training.curve_data(results, results.models[:1], LOSS)
    assert data.loc[data["series"] == "seed-1 resumed", "step"].tolist() == [90, 250, 0]
    axes = Figure().subplots()
    training._draw(LOSS, axes, data)
    assert [line.get_xdata()[0] for line in axes.lines if line.get_label().endswith("resumed")] == [90, 250, 0]
    found, _ = section(results, tmp_path)
    text = " ".join(re.search(r"base / seed-1:(.*?)</li>", found.body, re.S)[1].split())
    assert text == (
        "killed at step 97, resumed at step 90; interrupted at step 250, resumed at step 250; failed at step 260, "
        "started again."
    )


def test_a_training_in_one_go_has_no_marks(results):
    with_attempts(results, (0, 400, "completed"))
    data = training.curve_data(results, results.models[:1], LOSS)
    assert data["value"].notna().all() and list(drawn(LOSS, data)) == ["seed-1"]


def test_a_long_history_keeps_its_peak(results):
    steps = np.arange(1, 20_001)
    loss = np.where(steps == 12_345, 99.0, 1 / steps)
    pd.DataFrame({"step": steps, "loss": loss}).to_csv(HISTORY.format("large", "seed-1"), index=False)
    values = training.curve_data(results, results.models[2:], LOSS).dropna()
    assert len(values) <= training.MOST_POINTS and values["value"].max() == 99.0
    assert values["step"].iloc[[0, -1]].tolist() == [1, 20_000]


def test_a_training_without_validation_has_no_figure_of_it(results, tmp_path):
    for model in results.models:
        history = pd.read_csv(model.folder / "training.csv")
        history[["validation_loss", "calibration_f1", "calibration_exact"]] = None
        history.to_csv(model.folder / "training.csv", index=False)
    _, files = section(results, tmp_path)
    assert {file.rpartition("+")[2] for file in files} == {"loss", "learning-rate", "speed", "gradient-norm"}


def test_of_many_runs_the_first_are_drawn_and_the_page_says_so(results, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "MOST_RUNS", 1)
    monkeypatch.setattr(training, "MOST_SEEDS", 1)
    found, files = section(results, tmp_path)
    assert {file.split("+")[1] for file in files} == {"base"} and "large / seed-1" in found.body
    assert "show the first run." in found.body and "the first 1 of 2 seeds" in found.body
    saved = pd.read_csv(tmp_path / "figures" / "training+base+loss.csv")
    assert set(saved["series"]) == {"seed-1", "seed-1 resumed"}


def test_runs_that_train_nothing_have_no_section(results, tmp_path):
    runs = {name: run.model_copy(update={"train_on": None}) for name, run in results.config.runs.items()}
    found, files = section(Results(results.config.model_copy(update={"runs": runs})), tmp_path)
    assert found is None and files == []
