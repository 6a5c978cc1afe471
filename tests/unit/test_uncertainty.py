"""Intervals of the measures of confidence against resamples that are drawn in full, and against SciPy."""

import numpy as np
import pytest
from scipy import stats

from qa import statistics, uncertainty
from qa.confidence import brier, expected_calibration_error, risk_coverage


def outcomes(number, seed=0):
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.random(number), 2)  # with ties
    return confidence, (rng.random(number) < confidence**1.5).astype(float)


def plain(confidence, correct):
    return (
        expected_calibration_error(confidence, correct),
        brier(confidence, correct),
        risk_coverage(confidence, correct).area,
    )


@pytest.mark.parametrize("article", [None, np.arange(60) % 7], ids=["questions", "articles"])
def test_they_are_those_of_the_measures_of_resamples_written_out(article):
    confidence, correct = outcomes(60)
    drawn = []
    for times in statistics.question_draws(60, article, 200):
        for row in times.astype(int):
            drawn.append(plain(np.repeat(confidence, row), np.repeat(correct, row)))
    drawn = np.array(drawn)
    reach = stats.norm.ppf(0.975) * drawn.std(axis=0, ddof=1)
    expected = np.clip(np.array(plain(confidence, correct)) + np.stack([-reach, reach]), 0, 1)
    found = uncertainty.intervals(confidence, correct, article, resamples=200)
    np.testing.assert_allclose(np.array([found[name] for name in ("ece", "brier", "aurc")]).T, expected, atol=1e-12)


def test_of_the_brier_score_which_is_a_mean_it_is_that_of_scipy():
    confidence, correct = outcomes(2_000)
    squares = (confidence - correct) ** 2
    expected = stats.bootstrap((squares,), np.mean, method="percentile", n_resamples=5_000, rng=1).confidence_interval
    found = uncertainty.intervals(confidence, correct, resamples=2_000)["brier"]
    np.testing.assert_allclose(found, [expected.low, expected.high], atol=0.1 * (expected.high - expected.low))


def test_the_figure_itself_lies_within_though_resamples_have_more_error():
    confidence, correct = outcomes(300)
    found = uncertainty.intervals(confidence, correct)
    for name, value in zip(("ece", "brier", "aurc"), plain(confidence, correct), strict=True):
        assert found[name][0] < value < found[name][1], name


def test_whole_articles_are_drawn_with_all_their_questions():
    article = np.array([5, 5, 9, 9, 9])
    for times in statistics.question_draws(5, article, 50):
        assert (times[:, 0] == times[:, 1]).all() and (times[:, 2] == times[:, 4]).all()
        assert (times[:, 0] + times[:, 2] == 2).all()


def test_a_model_that_is_sure_and_right_has_no_spread():
    confidence = np.array([1.0, 1.0, 1.0])
    assert uncertainty.intervals(confidence, confidence) == {name: [0.0, 0.0] for name in ("ece", "brier", "aurc")}
