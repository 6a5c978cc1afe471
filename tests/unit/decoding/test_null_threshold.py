"""Null thresholds: the smoothed score by loops, how far they shrink, prior weights against copies of questions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa.decoding.answers import Candidates
from qa.decoding.null_threshold import (
    CalibrationQuestions,
    fit_threshold,
    fit_thresholds,
    prior_weights,
    questions_of,
    scores_at,
)

one_question = st.tuples(
    st.one_of(st.floats(-50, 50), st.just(math.inf)), st.floats(0, 1), st.floats(0, 1), st.booleans(), st.floats(0.1, 9)
)


def questions(rows):
    """Questions of (difference, exact, f1, unanswerable), the scores of unanswerable ones 0."""
    difference, exact, f1, unanswerable = (np.array(column) for column in zip(*rows, strict=True))
    silent = unanswerable.astype(bool)
    gone = silent | np.isinf(difference)
    # without a span the answer is silence, whatever the threshold
    exact, f1 = (np.where(gone, 1.0 * (silent & np.isinf(difference)), values) for values in (exact, f1))
    return CalibrationQuestions(difference.astype(float), exact, f1, silent)


def smoothed(made, thresholds, metric, weights):
    """What each question with a span adds to the score of each threshold, by the docstring of `fit_threshold`."""
    kept = np.isfinite(made.difference)
    width = 0.5 * (np.std(made.difference[kept]) or 1.0) / kept.sum() ** 0.2
    answered = 1 / (1 + np.exp(np.clip((made.difference[kept, None] - thresholds) / width, -700, 700)))
    return (weights * (getattr(made, metric) - made.unanswerable))[kept, None] * answered


@settings(max_examples=50, deadline=None)
@given(st.lists(one_question, min_size=1, max_size=30), st.sampled_from(["exact", "f1"]))
def test_no_threshold_has_a_greater_smoothed_score_before_it_is_shrunk(rows, metric):
    rows = [*rows, (1.0, 0, 0, True, 1.0)]  # none unanswerable is another case
    made, weights = questions([row[:4] for row in rows]), np.array([row[4] for row in rows])
    kept = made.difference[np.isfinite(made.difference)]
    found, deviation = fit_threshold(made, metric, weights), kept.std() or 1.0
    possible = np.linspace(kept.min() - deviation, kept.max() + deviation, 400)
    gains = smoothed(made, np.append(possible, 0.0), metric, weights)
    gain, square = gains[:, :-1] - gains[:, -1:], (gains[:, :-1] - gains[:, -1:]) ** 2
    total = gain.sum(axis=0)
    evidence = len(kept) * total**2
    shrunk = possible * evidence / np.maximum(evidence + 100 * square.sum(axis=0), 1e-300)
    near = total >= total.max() - 0.02 * weights.sum()  # differences are rounded, so a near one may be taken
    step = possible[1] - possible[0]
    assert shrunk[near].min() - 2 * step <= found <= shrunk[near].max() + 2 * step


@settings(max_examples=20, deadline=None)
@given(st.lists(one_question.map(lambda row: row[:4]), max_size=30), st.sampled_from([0.25, 8.0]))
def test_scores_of_another_scale_have_the_threshold_of_that_scale(rows, factor):
    rows += [(0.0, 1, 1, False), (1.0, 0, 0, True)]  # equal scores have no scale
    made = questions(rows)
    scaled = CalibrationQuestions(factor * made.difference, made.exact, made.f1, made.unanswerable)
    once, twice = (fit_threshold(each, "f1", np.ones(len(rows))) for each in (made, scaled))
    assert twice == pytest.approx(factor * once)


def test_without_a_span_the_threshold_is_0_and_without_an_unanswerable_question_beyond_all():
    assert fit_threshold(questions([(math.inf, 0, 0, True)] * 3), "f1", np.ones(3)) == 0
    assert fit_threshold(questions([(9.0, 0, 0, False)] * 3), "f1", np.ones(3)) > 1e5


def test_a_question_that_is_drawn_twice_counts_as_two():
    rng = np.random.default_rng(0)
    made = questions([(rng.normal(n % 3), 1, 1, n % 3 == 2) for n in range(200)])
    times = rng.permutation(np.repeat([0.0, 1, 2], [50, 100, 50]))
    copied = CalibrationQuestions(*(np.repeat(values, times.astype(int)) for values in vars(made).values()))
    found = fit_thresholds(made, "f1", np.ones(200), np.stack([np.ones(200), times]))
    assert found[0] == fit_threshold(made, "f1", np.ones(200)) != found[1]
    # the smoothing is that of all questions
    assert found[1] == pytest.approx(fit_threshold(copied, "f1", np.ones(200)), abs=0.05)


def test_fewer_questions_leave_the_threshold_nearer_to_0():
    made = questions([(-3.0, 1, 1, False), (1.0, 1, 1, False), (5.0, 1, 1, False), (9.0, 0, 0, True)])
    thresholds = []
    for copies in (1, 10, 100, 1_000):
        more = CalibrationQuestions(*(np.repeat(values, copies) for values in vars(made).values()))
        thresholds.append(fit_threshold(more, "f1", np.ones(4 * copies)))
    assert 0 < thresholds[0] < 0.5 and thresholds == sorted(thresholds) and 6 < thresholds[-1] < 8


def test_a_single_question_beyond_the_others_does_not_move_the_threshold_to_it():
    rows = [(-0.1 * n, 1, 1, False) for n in range(100)] + [(2 + 0.1 * n, 0, 0, True) for n in range(100)]
    without, beyond = questions(rows), questions([*rows, (6.05, 1, 1, False), (6.15, 1, 1, False)])
    thresholds = [fit_threshold(each, "f1", np.ones(len(each.f1))) for each in (without, beyond)]
    assert 0 < thresholds[0] < 2 and thresholds[1] == pytest.approx(thresholds[0], abs=0.1)


def test_the_two_metrics_may_want_different_thresholds():
    made = questions([(0.0, 1, 1, False), (1.0, 0, 0.9, False), (2.0, 0, 0, True), (3.0, 0, 0.2, False)])
    assert fit_threshold(made, "exact", np.ones(4)) < fit_threshold(made, "f1", np.ones(4))


@given(st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda x: 0 < sum(x) < len(x)), st.floats(0.01, 0.99))
def test_prior_weights_make_the_share_of_unanswerable_questions_the_prior_and_keep_their_number(flags, prior):
    silent = np.array(flags)
    weights = prior_weights(silent, prior)
    assert weights[silent].sum() == pytest.approx(prior * len(silent)) and weights.sum() == pytest.approx(len(silent))
    assert len(set(weights[silent])) == len(set(weights[~silent])) == 1


def test_without_a_prior_all_questions_weigh_the_same():
    assert prior_weights(np.array([True, False, True]), None).tolist() == [1, 1, 1]


def test_a_prior_lowers_the_threshold_and_gives_the_scores_of_as_many_copies_of_the_unanswerable_questions():
    rng = np.random.default_rng(0)
    silent = np.arange(400) % 5 == 0
    difference = rng.normal(np.where(silent, 1.0, -1.0), 1.5)
    right = (rng.random(400) < 0.8) & ~silent
    made = CalibrationQuestions(difference, right.astype(float), right.astype(float), silent)
    copied = CalibrationQuestions(*(np.concatenate([part, *[part[silent]] * 3]) for part in vars(made).values()))
    share = float(copied.unanswerable.mean())
    assert share == 0.5
    weights = prior_weights(silent, share)
    threshold = fit_threshold(made, "f1", weights)
    assert threshold < fit_threshold(made, "f1", np.ones(400)) - 0.5
    # the copies are taken for more questions, so their threshold is smoothed and shrunk a little less
    assert threshold == pytest.approx(fit_threshold(copied, "f1", np.ones(len(copied.f1))), abs=0.2)
    assert scores_at(made, threshold, weights) == pytest.approx(scores_at(copied, threshold, np.ones(640)))


def test_a_known_threshold_is_recovered():
    rng = np.random.default_rng(1)
    difference = rng.uniform(-20, 20, 4000)
    silent = difference > 3.7  # the model knows, but is shifted
    made = CalibrationQuestions(difference, (~silent).astype(float), (~silent).astype(float), silent)
    assert fit_threshold(made, "f1", np.ones(4000)) == pytest.approx(3.7, abs=0.05)
    assert scores_at(made, 3.7, np.ones(4000)) == pytest.approx(
        {"exact": 100, "f1": 100, "answered": 100 * (~silent).mean()}
    )


def test_the_best_candidate_is_judged_and_no_candidate_is_silence():
    golds = [["in 1412"], [], ["oak"], [], ["slate"]]
    candidates = Candidates(
        np.array([0, 0, 1, 2]),
        np.array([0, 3, 0, 5]),
        np.array([8, 7, 5, 13]),
        np.array([5.0, 4, 3, 2]),
        np.arange(5.0),
        np.ones(5, int),
    )
    contexts = ["1412 oak", "burnt", "Near the Oak!", "no span", "no span"]
    made = questions_of(candidates, golds, contexts)
    assert made.difference.tolist() == [-5, -2, 0, math.inf, math.inf]
    assert made.exact.tolist() == [0, 0, 1, 1, 0] and made.f1.tolist() == [0.5, 0, 1, 1, 0]
    assert made.unanswerable.tolist() == [False, True, False, True, False]
    assert scores_at(made, 0.0, np.ones(5)) == pytest.approx({"exact": 40, "f1": 50, "answered": 60})
    assert scores_at(made, -3.0, np.ones(5)) == pytest.approx({"exact": 40, "f1": 50, "answered": 20})
    by_characters = questions_of(candidates, golds, contexts, "characters")
    assert by_characters.f1.tolist() == [pytest.approx(2 * 4 / (7 + 6)), 0, 1, 1, 0]
