"""The benchmark of calibrated thresholds, on made-up scores."""

from types import SimpleNamespace

import calibration_bench
import numpy as np

from qa.decoding.null_threshold import CalibrationQuestions, scores_at


def pool(shift, questions=400, seed=0):
    """Half of the questions are unanswerable. The model separates them well, but with scores `shift` too great."""
    random = np.random.default_rng(seed)
    unanswerable = np.arange(questions) % 2 == 1
    difference = random.normal(np.where(unanswerable, 2.0, -2.0), 1.5) + shift
    right = (random.random(questions) < 0.8) * ~unanswerable
    return CalibrationQuestions(difference, right.astype(float), right.astype(float), unanswerable)


def test_the_pool_is_what_calibration_knows_of_the_best_spans(monkeypatch):
    golds, texts = {"a": ["red"], "b": [], "c": ["oak", "an old oak"]}, {"a": "red", "b": "", "c": "old oak"}
    nbest = SimpleNamespace(golds=golds, best=texts, bounds=np.array([0, 2, 2, 3]))
    nbest.score, nbest.null_score = np.array([5.0, 4.0, 1.0]), np.array([3.0, 0.0, 2.0])
    monkeypatch.setattr(calibration_bench, "read_nbest", lambda file: nbest)
    made = calibration_bench.read_pool("nbest.parquet")
    assert made.difference.tolist() == [-2, np.inf, 1] and made.unanswerable.tolist() == [False, True, False]
    assert made.exact.tolist() == [1, 1, 1] and made.f1.tolist() == [1, 1, 1]


def test_a_changed_pool_has_the_share_and_the_shift():
    made = calibration_bench.changed(pool(0.0), shift=2.0, unanswerable=0.2)
    assert (len(made.f1), made.unanswerable.sum()) == (250, 50)
    assert set(made.difference) <= set(pool(0.0).difference + 2)


def test_the_threshold_of_the_highest_f1_is_the_best_of_all():
    made, weights = pool(1.0, questions=60), np.ones(60)
    found = scores_at(made, calibration_bench.highest_f1(made), weights)["f1"]
    possible = [made.difference.min() - 1, *made.difference]
    assert found == max(scores_at(made, threshold, weights)["f1"] for threshold in possible)


def test_where_scores_are_shifted_all_gain_and_none_more_than_in_hindsight():
    outcomes = calibration_bench.outcomes(pool(3.0), 100, draws=20)
    assert outcomes == calibration_bench.outcomes(pool(3.0), 100, draws=20)
    hindsight = outcomes.pop(calibration_bench.HINDSIGHT)
    assert all(5 < each.gain <= hindsight.gain and each.worse == 0 for each in outcomes.values())


def test_where_threshold_0_is_right_the_calibrated_threshold_loses_less_than_that_of_the_highest_f1():
    outcomes = calibration_bench.outcomes(pool(0.0), 60, draws=40)
    assert outcomes["highest F1"].gain < outcomes["calibrated"].gain < outcomes[calibration_bench.HINDSIGHT].gain


def test_a_pool_too_small_for_a_size_leaves_its_column_out():
    header = calibration_bench.table(pool(1.0, questions=200), draws=2).splitlines()[0]
    assert header.split() == ["held", "out", "82"]
