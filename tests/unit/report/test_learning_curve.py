"""The learning curve in the report: which runs make one, and what twice as many questions would bring."""

import math
from contextlib import chdir

import pandas as pd
import pytest

import report_fixture
from qa.config import settings
from qa.report import learning_curve
from qa.report.figures import Figures
from qa.report.results import Results

pytestmark = pytest.mark.slow

SPLIT = "made/validation"
DEFAULTS = {"model": "tiny", "train_on": "made/train", "evaluate_on": [SPLIT], "decodings": ["threshold_0"]}
SWEEP = DEFAULTS | {"model": {"run": "base"}, "seeds": [1, 2]}


def configuration(**runs):
    return settings.resolve(
        {
            "models": {"tiny": {"path": "m"}},
            "datasets": {"made": {"splits": {"train": "t.json", "validation": "v.json"}}},
            "decodings": {"threshold_0": {"method": "n_best", "null_threshold": 0.0}},
            "runs": {"base": {**DEFAULTS, "seeds": [1, 2]}, **runs},
        }
    )


def test_a_curve_is_of_runs_that_differ_in_nothing_but_their_number_of_questions():
    grown = {**SWEEP, "training": {"questions": [200, 50]}}
    other = {**SWEEP, "model": "tiny", "training": {"questions": [50, 100], "learning_rate": 1e-4}}
    lone = {**SWEEP, "training": {"questions": 7}}
    assert learning_curve.curves_of(configuration(grown=grown, other=other, lone=lone)) == [
        {"base": 0, "lone": 7, "grown.questions-50": 50, "grown.questions-200": 200},
        {"other.questions-50": 50, "other.questions-100": 100},
    ]
    assert learning_curve.curves_of(configuration(lone=lone)) == []


def test_the_rate_is_the_gain_of_a_doubling_with_its_error_over_seeds():
    rows = pd.DataFrame(
        {
            "decoding": "d",
            "questions": [0, 50, 200, 800],
            "f1": [30.0, 50.0, 60.0, 64.0],
            "f1_deviation": [0, 1, 3, 4],
            "seeds": [1, 2, 3, 4],
        }
    )
    gain = learning_curve.gain(rows)
    assert (gain["first"], gain["last"], gain["rate"], gain["twice"]) == (200, 800, 2.0, 66.0)
    assert gain["error"] == pytest.approx(math.sqrt(9 / 3 + 16 / 4) / 2)
    assert gain["more"] == pytest.approx(800 * (math.sqrt(2) - 1))  # half a doubling
    falling = learning_curve.gain(rows.assign(f1=[30.0, 50.0, 60.0, 59.0]))
    assert falling["rate"] == -0.5 and falling["more"] is None and falling["twice"] is None


def test_a_lone_point_has_no_rate_equal_numbers_are_one_point_and_a_tiny_gain_is_one():
    rows = pd.DataFrame({"decoding": "d", "f1_deviation": math.nan, "seeds": 1, "questions": [50, 200, 200]})
    rows["f1"] = [50.0, 51.0, 50.0 + 2**-20]
    assert learning_curve.gain(rows[:1]) is None
    gain = learning_curve.gain(rows)
    assert (gain["first"], gain["last"], gain["rate"]) == (50, 200, 2**-21) and gain["more"] > 1e300


def test_the_page_shows_the_curve_and_what_more_questions_would_bring(tmp_path):
    runs = {name: [1, 2] for name in ("base", "grown.questions-50", "grown.questions-200")}
    report_fixture.make_results(tmp_path, runs=runs, decodings=("threshold_0",))
    config = configuration(grown={**SWEEP, "training": {"questions": [50, 200]}})
    with chdir(tmp_path):
        results = Results(config)
        section = learning_curve.section(results, Figures(tmp_path))
        table = learning_curve.points(results, learning_curve.curves_of(config)[0], SPLIT)
    assert table["questions"].tolist() == [0, 50, 200]
    rate = (table["f1"][2] - table["f1"][1]) / 2
    assert f"<strong>{rate:.2f}</strong> points of F1" in section.body and "400 questions would reach" in section.body
    assert (tmp_path / "learning-curve-1.svg").is_file()
