"""The best of several: scores, intervals, and how much too high the highest score is, against simulations."""

import numpy as np
import pytest

from qa.metrics import selection, statistics


def made(seed, systems, spread=0.0, questions=200):
    """True means and scores of questions, with noise that all systems share and noise of their own."""
    draws = np.random.default_rng(seed)
    means = 0.5 + draws.normal(0, spread, systems)
    return means, means + 0.1 * draws.normal(size=(questions, 1)) + 0.1 * draws.normal(size=(questions, systems))


@pytest.mark.parametrize(("systems", "spread", "most"), [(12, 0.0, 1.15), (2, 0.0, 1.25), (12, 0.01, 1.6)])
def test_the_optimism_is_what_the_highest_score_loses_on_new_questions(systems, spread, most):
    """Never too low in the mean of many simulations, and hardly too high where all systems are equally good."""
    lost, found = [], []
    for seed in range(150):
        means, values = made(seed, systems, spread)
        means = means + values.mean() - means.mean()  # the noise that all share is no matter of choice
        lost.append(values.mean(axis=0).max() - means[values.mean(axis=0).argmax()])
        found.append(selection.select(values, np.ones(len(values)), resamples=100).optimism / 100)
    assert 0.85 * np.mean(lost) < np.mean(found) < most * np.mean(lost)


def test_where_one_is_always_the_highest_choosing_costs_nothing():
    values = made(0, 3)[1] + [0.0, 0.9, 0.0]
    found = selection.select(values, np.ones(200))
    assert found.highest.tolist() == [0, 100, 0] and found.optimism == 0
    alone = selection.select(values[:, :1], np.ones(200))
    assert alone.highest.tolist() == [100] and alone.optimism == 0


@pytest.mark.parametrize("articles", [None, 20])
def test_scores_are_weighted_means_and_intervals_those_of_any_mean(articles):
    draws = np.random.default_rng(3)
    values, weights = draws.random((200, 2)), draws.random(200)
    article = None if articles is None else np.arange(200) % articles
    found = selection.select(values, weights, article)
    assert found.scores == pytest.approx(100 * np.average(values, axis=0, weights=weights))
    ratios = statistics.Ratios(["a", "b"], weights[:, None] * values, np.stack([weights, weights], axis=1))
    expected = statistics.bootstrap(ratios, article, seed=1)
    assert found.intervals == pytest.approx(np.array(list(expected.values())), abs=0.4)
    assert found.highest.sum() == pytest.approx(100)
