"""Differences over questions and seeds: against scipy where one level varies, a plain loop of draws, and coverage."""

import numpy as np
import pytest

from qa.metrics.seeds import over_seeds


def columns(*values):
    return np.stack(values, axis=1)


def test_where_only_seeds_differ_it_is_welchs_test():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for sizes in ((2, 2), (3, 3), (2, 7), (30, 4)):
        one, other = rng.normal(0.3, 1, sizes[0]), rng.normal(0, 3, sizes[1])
        gained = np.full((50, 1), one.mean() - other.mean())  # each question gains the same
        found, expected = (
            over_seeds(gained, None, [one[:, None], other[:, None]]),
            stats.ttest_ind(one, other, equal_var=False),
        )
        assert found.p[0] == pytest.approx(expected.pvalue, rel=1e-4)
        assert (found.low[0], found.high[0]) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-3)


@pytest.mark.parametrize("shift", [0, 0.05, 0.4])
def test_where_only_articles_differ_it_is_students_test_over_articles(shift):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    effect = rng.normal(shift, 1, 40)
    gained = columns(np.repeat(effect, 5) + np.tile([0.1, -0.2, 0.3, -0.1, -0.1], 40))
    seeds = np.full((3, 1), 0.5)
    found = over_seeds(gained, np.repeat(np.arange(40), 5) * 3, [seeds, seeds])
    expected = stats.ttest_1samp(effect, 0)
    assert found.p[0] == pytest.approx(expected.pvalue, rel=1e-3, abs=1e-12)
    assert (found.low[0], found.high[0]) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-3)


def test_the_variance_is_that_of_drawing_articles_and_the_seeds_of_each_side():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 9, 60)
    article = np.repeat(np.arange(60), sizes)
    shared = rng.normal(0, 1, 60)[article]
    sides = [
        shift + rng.normal(0, 0.2, (n, 1)) + rng.normal(0, 0.3, (n, len(article))) for shift, n in ((0.2, 25), (0, 20))
    ]
    sides[0] += shared
    gained = sides[0].mean(axis=0) - sides[1].mean(axis=0)
    means = []
    for _ in range(4000):
        drawn = np.concatenate([np.flatnonzero(article == number) for number in rng.integers(60, size=60)])
        one, other = (side[rng.integers(len(side), size=len(side))].mean(axis=0) for side in sides)
        means.append((one - other)[drawn].mean())
    found = over_seeds(gained[:, None], article, [side.mean(axis=1)[:, None] for side in sides])
    half = (found.high[0] - found.low[0]) / 2
    assert half == pytest.approx(stats.norm.ppf(0.975) * np.std(means), rel=0.08)  # with so many seeds t is near z
    assert found.low[0] + half == pytest.approx(gained.mean())


@pytest.mark.parametrize(
    ("seeds", "of_articles", "of_seeds", "of_both"),
    [(3, 1, 0.1, 1), (3, 1, 0.5, 0.5), (2, 0.2, 1, 0.2), (5, 0.1, 0, 1)],
)
def test_intervals_hold_the_true_difference_in_at_least_95_of_100_cases_and_p_agrees(
    seeds, of_articles, of_seeds, of_both
):
    rng = np.random.default_rng(3)
    held = []
    for _ in range(800):
        shared = rng.normal(0, of_articles, 40)
        sides = [rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, of_both, (seeds, 40)) for _ in range(2)]
        gained = shared + sides[0].mean(axis=0) - sides[1].mean(axis=0)
        found = over_seeds(gained[:, None], None, [side.mean(axis=1)[:, None] for side in sides])
        held.append(bool(found.low[0] < 0 < found.high[0]))
        assert held[-1] == (found.p[0] > 0.05)
    assert np.mean(held) > 0.935


def test_nothing_is_said_of_one_seed_or_one_article():
    gained, three = np.ones((4, 2)), np.zeros((3, 2))
    assert over_seeds(gained, None, [three, three[:1]]) is None
    assert over_seeds(gained, np.zeros(4, int), [three, three]) is None
    same = over_seeds(np.zeros((4, 2)), None, [three])
    assert (same.low.tolist(), same.high.tolist(), same.p.tolist()) == ([0, 0], [0, 0], [1, 1])
