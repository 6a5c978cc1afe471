"""Intervals of the measures of confidence against resamples that are drawn in full, and against SciPy."""

import numpy as np
import pytest
from scipy import stats

from qa.metrics import statistics
from qa.metrics.confidence import intervals, measures, reliability


def outcomes(number, seed=0):
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.random(number), 2)  # with ties
    return confidence, (rng.random(number) < confidence**1.5).astype(float)


def plain(confidence, correct):
    """The measures of questions that are all counted once, from the reliability diagram and by loops."""
    diagram = reliability(confidence, correct)
    ece = np.average(np.abs(diagram.accuracy - diagram.confidence), weights=diagram.count)
    risks = [1 - correct[confidence >= threshold].mean() for threshold in confidence]
    return ece, np.mean((confidence - correct) ** 2), np.mean(risks)


@pytest.mark.parametrize("article", [None, np.arange(60) % 7], ids=["questions", "articles"])
def test_they_are_those_of_the_measures_of_resamples_written_out(article):
    given = *outcomes(60), article
    order = np.argsort(-given[0], kind="stable")  # as questions are drawn
    confidence, correct, article = (None if values is None else values[order] for values in given)
    drawn = []
    for times in statistics.question_draws(60, article, 200):
        for row in times.astype(int):
            drawn.append(plain(np.repeat(confidence, row), np.repeat(correct, row)))
    drawn = np.array(drawn)
    units = 60 if article is None else 7
    reach = stats.t.ppf(0.975, units - 1) * (units / (units - 1)) ** 0.5 * drawn.std(axis=0, ddof=1)
    expected = np.clip(2 * np.array(plain(confidence, correct)) - drawn.mean(axis=0) + np.stack([-reach, reach]), 0, 1)
    found = intervals(*given, resamples=200)
    ends = np.array([found[name] for name in ("ece", "brier", "aurc")]).T
    np.testing.assert_allclose(ends, expected, atol=1e-6)


def test_of_the_brier_score_which_is_a_mean_it_is_that_of_scipy():
    confidence, correct = outcomes(2_000)
    squares = (confidence - correct) ** 2
    expected = stats.bootstrap((squares,), np.mean, method="percentile", n_resamples=5_000, rng=1).confidence_interval
    found = intervals(confidence, correct, resamples=2_000)["brier"]
    np.testing.assert_allclose(found, [expected.low, expected.high], atol=0.1 * (expected.high - expected.low))


def test_the_figures_themselves_lie_within():
    confidence, correct = outcomes(300)
    found = intervals(confidence, correct)
    for name, value in measures(confidence, correct).items():
        assert found[name][0] < value < found[name][1] or name == "ece", name
    assert found["ece"][0] < measures(*outcomes(200_000))["ece"] < found["ece"][1]  # what many questions show


def test_a_calibration_error_of_few_questions_has_its_bias_taken_off():
    """The mean over samples of a model that is 6 points off everywhere; few questions make that 9 and more."""
    rng, shown, middle = np.random.default_rng(2), [], []
    for _ in range(40):
        confidence = rng.uniform(0.3, 0.9, 200)
        correct = (rng.random(200) < confidence + 0.06).astype(float)
        shown.append(measures(confidence, correct)["ece"])
        middle.append(np.mean(intervals(confidence, correct)["ece"]))
    assert np.mean(shown) > 0.085 and abs(np.mean(middle) - 0.06) < abs(np.mean(shown) - 0.06) / 1.5


def test_whole_articles_are_drawn_with_all_their_questions():
    article = np.array([5, 5, 9, 9, 9])
    for times in statistics.question_draws(5, article, 50):
        assert (times[:, 0] == times[:, 1]).all() and (times[:, 2] == times[:, 4]).all()
        assert (times[:, 0] + times[:, 2] == 2).all()


def test_a_model_that_is_sure_and_right_has_no_spread():
    confidence = np.array([1.0, 1.0, 1.0])
    assert intervals(confidence, confidence) == {name: [0.0, 0.0] for name in ("ece", "brier", "aurc")}
