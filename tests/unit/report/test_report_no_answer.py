"""The report's section on no answer: every number that it shows is that of metrics.json."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from qa.common.files import read_json
from qa.config.sections import Walkthrough
from qa.decoding import probabilities
from qa.decoding.nbest import read_nbest
from qa.metrics import squad
from qa.report import no_answer, no_answer_data
from qa.report.figures import Figures
from qa.report.no_answer_data import BEST, BINS
from qa.report.results import Results
from report_fixture import HOSTILE, make_results

pytestmark = pytest.mark.slow

SPLIT = "made/validation"
FOLDER = "results/base/seed-1/made/validation"


@pytest.fixture
def group(results):
    (found,) = no_answer_data.groups(results, SPLIT, ["base"])
    return found


def scores(decoding="n_best"):
    return read_json(f"{FOLDER}/{decoding}/metrics.json")


def without_spans(group, few):
    """The same group, where every so many questions had no span at all."""
    changed = {key: 1e6 + 3.5 if n % few == 0 else score for n, (key, score) in enumerate(group.null_scores.items())}
    best = {key: "" if changed[key] > 1e5 else text for key, text in group.best.items()}
    return replace(group, best=best, null_scores=changed)


def test_decodings_that_share_their_null_scores_are_drawn_together_with_two_thresholds(results, group):
    assert [answers.decoding for answers in group.answers] == ["n_best", "threshold_0"]
    assert group.thresholds == {"n_best": -0.75, "threshold_0": 0.0}
    variants = {group.answers[0].variant for group in no_answer_data.groups(results, SPLIT, ["base", "large"])}
    assert variants == {"seed-1"}


@pytest.mark.parametrize(("metric", "place"), [("exact", 0), ("f1", 1)])
def test_the_highest_point_over_all_thresholds_is_the_official_best(metric, place, group):
    curve = no_answer_data.curve(group, group.raw[place])
    top = curve.loc[curve["score"].idxmax()]
    assert top["score"] == scores()[f"best_{metric}"] and top["threshold"] == scores()[f"best_{metric}_thresh"]
    shown = no_answer_data.against_threshold(group)
    assert shown.loc[shown["series"] == ("EM", "F1")[place], "score"].max() == scores()[f"best_{metric}"]


@pytest.mark.parametrize("decoding", ["n_best", "threshold_0"])
def test_the_curves_pass_through_the_scores_with_the_chosen_threshold(decoding, group):
    for place, metric in enumerate(("exact", "f1")):
        curve = no_answer_data.curve(group, group.raw[place])
        reached = curve[curve["threshold"] <= group.thresholds[decoding]].iloc[-1]
        assert reached["score"] == pytest.approx(scores(decoding)[metric], abs=1e-9)
    marked = no_answer_data.against_threshold(group).set_index("series").loc[decoding]
    assert marked["score"] == scores(decoding)["f1"] and marked["threshold"] == group.thresholds[decoding]


def test_the_curve_begins_where_nothing_is_answered(group):
    curve = no_answer_data.curve(group, group.raw[1])
    unanswerable = sum(not golds for golds in group.golds.values())
    assert curve["score"].iloc[0] == pytest.approx(100 * unanswerable / len(group.golds))
    assert len(curve) == len(group.golds) + 1 and curve["threshold"].is_monotonic_increasing


def test_the_area_of_the_steps_is_the_average_precision(group):
    points = no_answer_data.precision_recall(group)
    for name, metric in (("F1", "pr_f1_ap"), ("EM", "pr_exact_ap")):
        rows = points[points["series"] == name]
        area = (rows["precision"].to_numpy()[1:] * np.diff(rows["recall"])).sum() / 100
        assert area == pytest.approx(scores()[metric], abs=1e-9)


@pytest.mark.parametrize("decoding", ["n_best", "threshold_0"])
def test_the_bins_of_reliability_give_the_calibration_error(decoding, group):
    bins = no_answer_data.reliability(group)
    shown = no_answer_data.measure(group, "ece")
    labels = {"n_best": {"ece": "n_best, T = 1.50", "ece_uncalibrated": "n_best, T = 1"}}
    for metric, label in labels.get(decoding, {"ece": decoding}).items():
        rows = bins[bins["series"] == label]
        error = np.average(np.abs(rows["confidence"] - rows["right"]), weights=rows["questions"])
        assert error == pytest.approx(scores(decoding)[metric], abs=1e-9)
        assert shown[label] == scores(decoding)[metric] and rows["questions"].sum() == len(group.golds)
    assert len(shown) == 3


def test_risk_and_coverage_are_those_of_the_file(group):
    found = no_answer_data.risk_coverage(group)
    table = pd.read_csv(f"{FOLDER}/n_best/risk_coverage.csv")
    for which, label in (("calibrated", "n_best, T = 1.50"), ("uncalibrated", "n_best, T = 1")):
        expected = 100 * table.loc[table["probabilities"] == which, ["coverage", "risk"]]
        np.testing.assert_array_equal(found.loc[found["series"] == label, ["coverage", "risk"]], expected)
    assert no_answer_data.measure(group, "aurc")["n_best, T = 1"] == scores()["aurc_uncalibrated"]


def test_the_histogram_counts_every_question_once(group):
    data = no_answer_data.histogram(group)
    bins = data[data["mark"] == ""]
    assert len(bins) == BINS
    null_scores, last = read_json(f"{FOLDER}/n_best/null_scores.json"), bins["high"].max()
    for row in bins.itertuples():
        inside = [k for k, s in null_scores.items() if row.low <= s < row.high or s == row.high == last]
        assert row.answerable == sum(bool(group.golds[key]) for key in inside)
        assert row.unanswerable == sum(not group.golds[key] for key in inside)
    marks = data[data["mark"] != ""].set_index("mark")["low"].to_dict()
    assert marks == {"n_best": -0.75, "threshold_0": 0.0, BEST: scores()["best_f1_thresh"]}


def test_questions_without_a_span_are_beyond_every_axis(group):
    changed = without_spans(group, few=4)
    assert len(changed.ranked) == 90 - 23
    data = no_answer_data.histogram(changed)
    assert data["high"].max() < 100 and data[["answerable", "unanswerable"]].sum().sum() == 90 - 23
    curve = no_answer_data.curve(changed, changed.raw[1])
    official = squad.official_metrics(group.golds, changed.best, changed.null_scores, best_texts=changed.best)
    assert curve["threshold"].max() < 100 and curve["score"].max() == official["best_f1"]


def test_what_is_drawn_is_what_is_saved(results, group, tmp_path):
    no_answer._figures_of(group, SPLIT, Figures(tmp_path))
    saved = {path.stem.rpartition("+")[2]: pd.read_csv(path, keep_default_na=False) for path in tmp_path.glob("*.csv")}
    assert saved.keys() == {"null-scores", "threshold", "precision-recall", "risk-coverage", "reliability"}
    axes = Figure().subplots()
    no_answer._draw_against_threshold(axes, saved["threshold"])
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert lines["F1"][:, 1].max() == pytest.approx(scores()["best_f1"], rel=1e-12)
    marks = [lines[name][0, 0] for name in ("n_best", "threshold_0", BEST)]
    assert marks == pytest.approx([-0.75, 0, scores()["best_f1_thresh"]], rel=1e-12)
    assert all((tmp_path / f"no-answer+made+validation+base+n_best+{name}.svg").exists() for name in saved)


def test_the_table_has_every_set_of_answers_and_the_figures_one_variant_a_run(results, tmp_path):
    found = no_answer.section(results, Figures(tmp_path))
    rows = no_answer.rows(results, SPLIT)
    assert [row["name"] for row in rows] == [answers.name for answers in results.answers]
    first = rows[0]
    assert first["gap"] == scores()["best_f1"] - scores()["f1"]
    assert (first["threshold"], first["temperature"], first["ece"]) == (-0.75, 1.5, scores()["ece"])
    assert (rows[1]["threshold"], rows[1]["temperature"], rows[1]["interval"]) == (0.0, None, None)
    assert first["interval"] == [-2.125, 0.5] and "−0.75 (−2.12 to 0.50)</td>" in found.body
    assert found.id == "no-answer" and found.body.count("<figure>") == 10
    assert [name for name in re.findall(r"<summary><strong>(.*?)</strong>", found.body)] == [
        "large / n_best and threshold_0",
        "base / n_best and threshold_0",
    ]
    assert f"ECE {scores()['ece']:.2f} %" in found.body and f"{scores()['pr_f1_ap']:.2f} %" in found.body


@pytest.mark.parametrize(("questions", "warned"), [(499, True), (500, False)])
def test_a_threshold_from_few_calibration_questions_is_warned_of(questions, warned, results, tmp_path, monkeypatch):
    calibration = Results.calibration
    few = lambda self, answers: (found := calibration(self, answers)) and found | {"questions": questions}  # noqa: E731
    monkeypatch.setattr(Results, "calibration", few)
    assert [row["questions"] for row in no_answer.rows(results, SPLIT)][:2] == [questions, None]
    body = no_answer.section(results, Figures(tmp_path)).body
    assert ("3 of these 6 thresholds come from fewer than 500 calibration questions" in body) == warned


def test_of_many_runs_the_best_are_drawn_and_the_page_says_so(results, tmp_path, monkeypatch):
    monkeypatch.setattr(no_answer, "MOST_RUNS", 1)
    found = no_answer.section(results, Figures(tmp_path))
    assert {path.name.split("+")[3] for path in tmp_path.iterdir()} == {"large"}
    assert "highest F1. The table shows all" in found.body


def test_a_decoding_without_a_threshold_shows_what_it_has(results, group, tmp_path):
    decodings = dict.fromkeys(("n_best", "threshold_0"), Walkthrough(method="walkthrough"))
    walkthrough = Results(results.config.model_copy(update={"decodings": decodings}))
    alone = replace(group, answers=group.answers[1:], results=walkthrough)
    assert alone.thresholds == {}
    assert len(no_answer._figures_of(alone, SPLIT, Figures(tmp_path))) == 5
    nobody = dict.fromkeys(group.null_scores, 1e6)
    empty = replace(alone, null_scores=nobody)
    (tmp_path / "empty").mkdir()
    assert len(no_answer._figures_of(empty, SPLIT, Figures(tmp_path / "empty"))) == 3


def test_answerable_questions_alone_have_a_histogram_and_unanswerable_ones_alone_no_precision(group, tmp_path):
    for kind, figures in (("answerable", 5), ("unanswerable", 4)):
        (tmp_path / kind).mkdir()
        golds = {key: ["the"] if kind == "answerable" else [] for key in group.golds}
        of_kind = replace(group, golds=golds)
        assert len(no_answer._figures_of(of_kind, SPLIT, Figures(tmp_path / kind))) == figures


def test_hostile_questions_do_no_harm(tmp_path, monkeypatch):
    config = make_results(tmp_path, questions=40, hostile=True, runs={"base": [1]})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figures").mkdir()
    found = no_answer.section(Results(config), Figures(tmp_path / "figures"))
    assert found.body.count("<figure>") == 5 and not any(text in found.body for text in HOSTILE if "<" in text)


def test_without_answers_there_is_no_section(results, tmp_path):
    assert no_answer.section(Results(results.config.model_copy(update={"runs": {}})), Figures(tmp_path)) is None


def test_the_probabilities_are_those_of_what_was_answered(group):
    texts = read_json(f"{FOLDER}/n_best/answers.json")
    answered = np.array([bool(texts[key]) for key in group.golds])
    sure = probabilities.certainty(read_nbest(f"{FOLDER}/n_best/nbest.parquet"), answered)["calibrated"]
    bins = no_answer_data.reliability(group)
    rows = bins[bins["series"] == "n_best, T = 1.50"]
    assert np.average(rows["confidence"], weights=rows["questions"]) == pytest.approx(100 * sure.mean())
