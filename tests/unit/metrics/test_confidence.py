"""Temperatures and measures of calibration against hand-made cases, plain loops, SciPy and scikit-learn."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qa.decoding.answers import Candidates, decide
from qa.decoding.probabilities import (
    HIGHEST,
    LEAST_CHANCE,
    LOWEST,
    Logistic,
    fit_logistic,
    fit_temperature,
    probabilities,
)
from qa.metrics.confidence import measures, reliability, risk_coverage


def questions(number, seed=0, temperature=None):
    """Scores, the best first, bounds, null scores, which are answered, and which are right: at random, or drawn by the
    probability of what was answered at a temperature.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 6, number)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    scores, null_scores = rng.normal(scale=4, size=bounds[-1]), rng.normal(scale=4, size=number)
    scores = scores[np.lexsort((-scores, np.repeat(np.arange(number), sizes)))]
    answered = (sizes > 0) & (rng.random(number) < 0.6)
    chances = probabilities(scores, bounds, null_scores, temperature or 1.0)
    sure = [chances[0][a] if yes else chances[1][n] for n, (a, yes) in enumerate(zip(bounds, answered, strict=False))]
    return scores, bounds, null_scores, answered, rng.random(number) < (sure if temperature else 0.5)


def plain_loss(scores, bounds, null_scores, answered, correct, temperature):
    """The mean log loss of the probability of what was answered, by a loop over the questions."""
    losses = []
    for n, (a, b) in enumerate(pairwise(bounds)):
        outcome = scores[a] if answered[n] else null_scores[n]
        every = [*scores[a:b], null_scores[n]]
        weights = [math.exp((score - max(every)) / temperature) for score in every]
        chance = math.exp((outcome - max(every)) / temperature) / math.fsum(weights)
        losses.append(-math.log(max(chance if correct[n] else 1 - chance, LEAST_CHANCE)))
    return math.fsum(losses) / len(losses)


# --- probabilities


@given(st.integers(0, 9), st.integers(0, 99))
def test_at_temperature_one_the_probabilities_are_those_of_the_answers(number, seed):
    scores, bounds, null_scores, *_ = questions(number, seed)
    record = np.repeat(np.arange(number), np.diff(bounds))
    order = np.lexsort((-scores, record))  # best first
    places = np.zeros(len(scores), int)
    windows = np.ones(len(null_scores), int)
    decision = decide(Candidates(record, places, places, scores[order], null_scores, windows), 0.0)
    found, null = probabilities(scores[order], bounds, null_scores)
    assert found == pytest.approx(decision.probability) and null == pytest.approx(decision.null_probability)


def test_a_temperature_of_two_halves_the_scores():
    given = np.array([4.0, 2.0, 6.0]), np.array([0, 2, 2, 3]), np.array([0.0, 1.0, 6.0])
    halved = given[0] / 2, given[1], given[2] / 2
    for found, expected in zip(probabilities(*given, 2.0), probabilities(*halved), strict=True):
        assert found == pytest.approx(expected)
    assert probabilities(*given, 2.0)[1] == pytest.approx([1 / (1 + math.e + math.e**2), 1.0, 0.5])


def test_great_scores_neither_overflow_nor_vanish():
    found, null = probabilities(np.array([5e4, 5e4 - 1]), np.array([0, 2]), np.array([-9e4]), 0.05)
    assert found == pytest.approx([1 / (1 + math.exp(-20)), 1 / (1 + math.exp(20))]) and null == [0.0]


@pytest.mark.parametrize(
    ("scores", "bounds", "null_scores", "said"),
    [
        ([1.0], [0, 2], [0.0], "bounds"),
        ([1.0], [0, 1, 1], [0.0], "bounds"),
        ([1.0], [1, 1], [0.0], "bounds"),
        ([1.0, 2.0], [0, 2, 1, 2], [0.0, 0.0, 0.0], "bounds"),
        ([np.nan], [0, 1], [0.0], "finite"),
        ([1.0], [0, 1], [np.inf], "finite"),
    ],
)
def test_scores_that_cannot_be_weighed_are_refused(scores, bounds, null_scores, said):
    arguments = np.array(scores), np.array(bounds), np.array(null_scores)
    with pytest.raises(ValueError, match=said):
        probabilities(*arguments)
    with pytest.raises(ValueError, match=said):
        fit_temperature(*arguments, np.ones(len(null_scores), bool), np.ones(len(null_scores)))


# --- the temperature


def test_the_temperature_makes_the_confidence_the_share_that_is_right():
    scores, bounds, null_scores = np.full(4, 2.0), np.arange(5), np.zeros(4)
    right = np.array([True, True, True, False])
    found = fit_temperature(scores, bounds, null_scores, np.ones(4, bool), right)
    assert found.value == pytest.approx(2 / math.log(3), rel=1e-5)  # sigmoid(2 / T) = 3 / 4
    assert probabilities(scores, bounds, null_scores, found.value)[0] == pytest.approx([0.75] * 4)
    assert found.after == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert found.before == pytest.approx(math.log(1 + math.exp(-2)) + 2 / 4)


def test_of_silence_the_probability_of_null_counts():
    scores, bounds, null_scores = np.zeros(4), np.arange(5), np.full(4, 2.0)
    found = fit_temperature(scores, bounds, null_scores, np.zeros(4, bool), np.array([True, True, True, False]))
    assert found.value == pytest.approx(2 / math.log(3), rel=1e-5)


def test_wrong_answers_without_a_right_candidate_count():
    """The surest mistakes are those whose right answer the model does not even list."""
    made = questions(500, seed=4, temperature=1.0)
    wrong = made[-1].copy()
    wrong[::4] = False
    assert fit_temperature(*made[:-1], wrong).value > 1.2 * fit_temperature(*made).value


def test_weights_count_as_questions_do():
    scores, bounds, null_scores, answered, correct = questions(60, seed=9)
    often = np.arange(60) % 3 + 1
    repeated = np.repeat(np.arange(60), often)
    sizes = np.diff(bounds)
    listed = np.concatenate([scores[bounds[n] : bounds[n + 1]] for n in repeated])
    again = listed, np.concatenate([[0], np.cumsum(sizes[repeated])]), null_scores[repeated]
    one = fit_temperature(scores, bounds, null_scores, answered, correct, often.astype(float))
    assert one.value == pytest.approx(fit_temperature(*again, answered[repeated], correct[repeated]).value, rel=1e-4)


def test_nothing_to_fit_leaves_the_scores_as_they_are():
    found = fit_temperature(np.zeros(0), np.zeros(1, int), np.zeros(0), np.zeros(0, bool), np.zeros(0))
    assert found.value == 1.0 and math.isnan(found.before) and math.isnan(found.after)


@pytest.mark.parametrize(("right", "bound"), [(True, LOWEST), (False, HIGHEST)])
def test_a_model_that_is_always_right_or_always_wrong_gets_a_bound(right, bound):
    made = np.array([0.3, -0.3] * 5), np.arange(0, 11, 2), np.full(5, -0.5)
    found = fit_temperature(*made, np.ones(5, bool), np.full(5, right))
    assert found.value == pytest.approx(bound)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_drew_the_outcomes_is_found(temperature):
    found = fit_temperature(*questions(20_000, seed=5, temperature=temperature))
    assert found.value == pytest.approx(temperature, rel=0.05)
    assert found.after <= found.before


@pytest.mark.parametrize("temperature", [None, 0.3, 2.0])
def test_the_temperature_is_where_scipy_finds_the_least_loss(temperature):
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    made = questions(250, seed=6, temperature=temperature)
    found = fit_temperature(*made)
    bounds = math.log(LOWEST), math.log(HIGHEST)
    best = optimize.minimize_scalar(
        lambda x: plain_loss(*made, math.exp(x)), bounds=bounds, method="bounded", options={"xatol": 1e-9}
    )
    assert found.value == pytest.approx(math.exp(best.x), rel=1e-3)
    assert found.after == pytest.approx(best.fun, rel=1e-7)
    assert found.before == pytest.approx(plain_loss(*made, 1.0))


def test_outcomes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="null scores' shape"):
        fit_temperature(np.zeros(2), np.array([0, 2]), np.zeros(1), np.ones(2, bool), np.ones(1))


# --- probabilities of no answer


@pytest.mark.parametrize("shift", [1.0, 3.0, 50.0])  # 50: the two kinds are wholly apart
def test_the_probability_of_no_answer_is_a_logistic_regression_on_platts_labels(shift):
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    unanswerable = np.arange(90) % 3 == 0
    difference, weights = 5 + rng.normal(size=90) + shift * unanswerable, rng.uniform(0.5, 2, 90)
    label = np.where(unanswerable, 31 / 32, 1 / 62)
    model = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    twice, kinds = np.tile(difference[:, None] - 5, (2, 1)), np.repeat([1, 0], 90)
    model.fit(twice, kinds, sample_weight=np.concatenate([weights * label, weights * (1 - label)]))
    found = fit_logistic(np.append(difference, np.inf), np.append(unanswerable, True), np.append(weights, 1.0))
    expected = model.predict_proba(difference[:, None] - 5)[:, 1]
    assert found(difference) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("unanswerable", [[True] * 4, [False] * 4, [True, True, False, False]])
def test_probabilities_of_no_answer_are_in_the_order_of_scores_whatever_they_were_fitted_on(unanswerable):
    found = fit_logistic(np.array([-2.0, -1, 1, 2]), np.array(unanswerable), np.ones(4))
    chances = found(np.array([-1e6, -900, -2, 0, 2, 30, 1e6]))
    assert (np.diff(chances[1:-1]) > 0).all() and 0 <= chances[0] <= chances[-1] <= 1
    assert found(np.zeros(1))[0] == pytest.approx((sum(unanswerable) + 1) / 6, abs=0.1)
    assert fit_logistic(np.array([np.inf]), np.array([True]), np.ones(1)) == Logistic()


# --- measures

UNIT = st.floats(0, 1) | st.sampled_from([0.0, 0.2, 0.5, 1.0])
PAIRS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(arrays(float, n, elements=UNIT), arrays(float, n, elements=UNIT))
)


def test_reliability_by_hand():
    confidence, correct = np.array([0.1, 0.5, 0.2, 0.9, 1.0, 0.0]), np.array([0, 1, 1, 1, 0, 0.25])
    found = reliability(confidence, correct, bins=2)
    assert found.low.tolist() == [0.0, 0.5] and found.high.tolist() == [0.5, 1.0]
    assert found.count.tolist() == [4, 2]  # 0.5 belongs to the bin that it ends
    assert found.confidence == pytest.approx([0.2, 0.95]) and found.accuracy == pytest.approx([0.5625, 0.5])


def test_empty_bins_are_left_out_and_few_questions_have_bins_of_their_own():
    found = reliability(np.array([0.05, 0.95]), np.array([0, 1]))
    assert found.count.tolist() == [1, 1] and found.high.tolist() == pytest.approx([1 / 15, 1.0])


def test_the_calibration_error_by_hand():
    confidence, correct = np.array([0.95, 0.5, 0.51, 0.6, 0.95, 0.0]), np.array([0, 1, 1, 0, 1, 0.25])
    error = 2 / 6 * 0.45 + 2 / 6 * 0.495 + 1 / 6 * 0.6 + 1 / 6 * 0.25  # 0.5 and 0.51 are in one bin
    assert measures(confidence, correct)["ece"] == pytest.approx(error)


def test_a_model_that_says_what_it_knows_has_no_calibration_error():
    confidence = np.repeat([0.25, 0.75], 8)
    correct = np.array([1, 0, 0, 0] * 2 + [1, 1, 1, 0] * 2)
    assert measures(confidence, correct)["ece"] == pytest.approx(0)
    assert measures(np.ones(9), np.zeros(9))["ece"] == 1.0


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_questions_changes_nothing(pair, shuffle):
    confidence, correct = pair
    order = list(range(len(confidence)))
    shuffle.shuffle(order)
    assert measures(confidence[order], correct[order]) == pytest.approx(measures(confidence, correct), abs=1e-12)


@given(PAIRS, st.integers(1, 20))
def test_bins_hold_every_question_once(pair, bins):
    found = reliability(*pair, bins)
    assert found.count.sum() == len(pair[0])
    assert np.average(found.confidence, weights=found.count) == pytest.approx(pair[0].mean())
    assert np.average(found.accuracy, weights=found.count) == pytest.approx(pair[1].mean())
    assert (found.low <= found.confidence + 1e-12).all() and (found.confidence <= found.high + 1e-12).all()


def test_the_diagram_is_that_of_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration", reason="scikit-learn is not installed")
    rng = np.random.default_rng(7)
    confidence = rng.beta(4, 2, 600)
    correct = (rng.random(600) < confidence**2).astype(int)
    found = reliability(confidence, correct)
    accuracy, mean = calibration.calibration_curve(correct, confidence, n_bins=15)
    assert found.accuracy == pytest.approx(accuracy) and found.confidence == pytest.approx(mean)
    gap = np.abs(accuracy - mean) @ found.count / 600
    assert measures(confidence, correct)["ece"] == pytest.approx(gap)


def test_the_brier_score_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(8)
    confidence, correct = rng.random(500), rng.integers(0, 2, 500)
    assert measures(confidence, correct)["brier"] == pytest.approx(metrics.brier_score_loss(correct, confidence))
    assert measures(np.array([0.8, 0.4]), np.array([1.0, 0.5]))["brier"] == pytest.approx((0.04 + 0.01) / 2)


def test_risk_and_coverage_by_hand():
    found = risk_coverage(np.array([0.9, 0.5, 0.7, 0.5]), np.array([1, 0, 0, 1]))
    assert found.threshold.tolist() == [0.9, 0.7, 0.5]
    assert found.coverage.tolist() == [0.25, 0.5, 1.0]
    assert found.risk.tolist() == [0.0, 0.5, 0.5]


@given(PAIRS)
def test_the_area_is_the_mean_risk_over_each_questions_threshold(pair):
    confidence, correct = pair
    risks = []
    for threshold in confidence:
        answered = correct[confidence >= threshold]
        risks.append(1 - sum(answered) / len(answered))
    assert measures(confidence, correct)["aurc"] == pytest.approx(sum(risks) / len(risks), abs=1e-12)


def test_knowing_ones_mistakes_lowers_the_area():
    correct = np.array([1, 1, 1, 0])
    areas = [measures(np.array(c), correct)["aurc"] for c in ([0.9, 0.8, 0.7, 0.1], [0.5] * 4, [0.1, 0.2, 0.3, 0.9])]
    assert areas == pytest.approx([0.25 / 4, 0.25, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4])


@pytest.mark.parametrize("measure", [reliability, risk_coverage, measures])
@pytest.mark.parametrize(
    ("confidence", "correct"),
    [([], []), ([0.5], [1, 0]), ([[0.5]], [[1]]), ([1.1], [1]), ([0.5], [-1]), ([np.nan], [1])],
)
def test_what_is_no_confidence_is_refused(measure, confidence, correct):
    with pytest.raises(ValueError, match=r"one shape|from 0 to 1"):
        measure(np.array(confidence), np.array(correct))


def test_a_sum_of_probabilities_that_rounds_above_one_is_taken_as_one():
    assert measures(np.array([1 + 1e-12]), np.array([1.0]))["brier"] == 0.0
