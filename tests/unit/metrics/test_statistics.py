"""Bootstrap intervals against a loop that draws question by question, the normal approximation and hand-made cases."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from qa.metrics import statistics
from qa.metrics.statistics import Ratios, bootstrap, clusters, intervals, mean_metrics, percentiles, reach, student


def questions(number, seed=0):
    """Gold answers, exact, F1 and texts of made-up questions, half of them without an answer."""
    rng = np.random.default_rng(seed)
    gold, exact, overlap, texts = {}, {}, {}, {}
    for n in range(number):
        key = f"q{n}"
        gold[key] = ["x"] if rng.random() < 0.5 else []
        texts[key] = "x" if rng.random() < 0.6 else ""
        right = int(texts[key] == "") if not gold[key] else int(rng.random() < 0.5)
        exact[key] = right
        overlap[key] = 1.0 if right else (float(rng.integers(0, 9)) / 10 if gold[key] else 0.0)
    return gold, exact, overlap, texts


def plain_means(gold, exact, overlap, texts, keys):
    """The mean metrics of some questions, which may occur several times, by loops."""
    groups = {"": keys, "HasAns_": [k for k in keys if gold[k]], "NoAns_": [k for k in keys if not gold[k]]}
    means = {}
    for prefix, some in groups.items():
        if some:
            means[f"{prefix}exact"] = 100 * sum(exact[k] for k in some) / len(some)
            means[f"{prefix}f1"] = 100 * sum(overlap[k] for k in some) / len(some)
    return means | {"answered": 100 * sum(texts[k] != "" for k in keys) / len(keys)}


def plain_bootstrap(data, groups, resamples, seed):
    """Draw whole groups of keys with replacement, score each resample anew, take the 2.5th and 97.5th percentile."""
    draw, found = random.Random(seed), {}
    for _ in range(resamples):
        keys = [key for group in draw.choices(groups, k=len(groups)) for key in group]
        for name, value in plain_means(*data, keys).items():
            found.setdefault(name, []).append(value)
    return {name: np.percentile(values, [2.5, 97.5]) for name, values in found.items()}


def assert_alike(found, expected, resamples):
    """Ends agree to what the simulation itself leaves open: a few standard errors of a percentile."""
    assert list(found) == list(expected)
    for name, (low, high) in expected.items():
        spread = (high - low) / 3.92
        error = 4 * spread * math.sqrt(2) * 2.67 / math.sqrt(resamples)  # 2.67: of a normal's 2.5th percentile
        assert found[name] == pytest.approx([low, high], abs=error + 100 / 150), name


def test_means_of_all_questions_are_the_official_ones():
    data = questions(200)
    ratios = mean_metrics(*data)
    means = 100 * ratios.numerator.sum(axis=0) / ratios.denominator.sum(axis=0)
    assert dict(zip(ratios.names, means, strict=True)) == pytest.approx(plain_means(*data, list(data[0])))


def test_intervals_over_questions_are_those_of_a_loop_that_draws_them_one_by_one():
    data = questions(150)
    expected = plain_bootstrap(data, [[key] for key in data[0]], 1_500, seed=1)
    assert_alike(bootstrap(mean_metrics(*data), resamples=6_000), expected, 1_500)


def test_intervals_over_articles_are_those_of_a_loop_that_draws_articles():
    gold, exact, overlap, texts = questions(160)
    article = np.repeat(np.arange(20), 8)
    for n, key in enumerate(gold):  # articles differ, so that drawing questions instead would show
        if article[n] % 2:
            exact[key], overlap[key] = 1, 1.0
    data = (gold, exact, overlap, texts)
    keys = np.array(list(gold))
    expected = plain_bootstrap(data, [keys[article == n].tolist() for n in range(20)], 1_500, seed=2)
    ratios = mean_metrics(*data)
    by_article, by_question = bootstrap(ratios, article, 6_000), bootstrap(ratios, resamples=6_000)
    assert_alike(by_article, expected, 1_500)
    widths = [high - low for low, high in (by_article["exact"], by_question["exact"])]
    assert widths[0] > 1.3 * widths[1]


@pytest.mark.parametrize("one_by_one", [True, False])
def test_both_ways_of_drawing_give_the_normal_approximations_interval(one_by_one, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS_A_GROUP", 10**9 if one_by_one else 0)
    right = (np.arange(5_000) % 10 < 7).astype(float)
    (interval,) = bootstrap(Ratios(["exact"], right[:, None], np.ones((5_000, 1)))).values()
    half = 100 * 1.959964 * math.sqrt(0.7 * 0.3 / 5_000)
    assert interval == pytest.approx([70 - half, 70 + half], abs=0.08 * half)


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("cells", [7, 10**6])
def test_each_resample_draws_as_many_as_there_are(one_by_one, cells, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS_A_GROUP", 10**9 if one_by_one else 0)
    monkeypatch.setattr(statistics, "CELLS", cells)
    counts = np.array([4, 2, 1])
    times = np.concatenate(list(statistics._drawn(counts, 3_000, np.random.default_rng(5))))
    assert times.shape == (3_000, 3) and (times.sum(axis=1) == 7).all()
    assert times.mean(axis=0) == pytest.approx(counts, abs=0.15)
    assert times.var(axis=0) == pytest.approx(counts * (1 - counts / 7), rel=0.15)


def test_all_right_leaves_no_doubt():
    gold = {"a": ["x"], "b": ["y"], "c": []}
    ones = dict.fromkeys(gold, 1)
    found = bootstrap(mean_metrics(gold, ones, ones, {"a": "x", "b": "y", "c": ""}), resamples=500)
    assert list(found) == ["exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "answered"]
    assert all(value == [100.0, 100.0] for name, value in found.items() if name != "answered")


def test_two_questions_of_which_one_is_right_may_be_none_or_both():
    ratios = mean_metrics({"a": ["x"], "b": ["x"]}, {"a": 1, "b": 0}, {"a": 1.0, "b": 0.5}, {"a": "x", "b": "y"})
    found = bootstrap(ratios)
    assert list(found) == ["exact", "f1", "HasAns_exact", "HasAns_f1", "answered"]
    assert (found["exact"], found["f1"], found["answered"]) == ([0.0, 100.0], [50.0, 100.0], [100.0, 100.0])


def test_a_resample_without_a_question_of_a_kind_says_nothing_of_it():
    gold = {"a": ["x"], **{f"b{n}": [] for n in range(6)}}
    ones = dict.fromkeys(gold, 1)
    found = bootstrap(mean_metrics(gold, ones, ones, dict.fromkeys(gold, "")), resamples=400)
    assert found["HasAns_exact"] == [100.0, 100.0]


def test_the_same_scores_have_the_same_intervals_and_another_seed_others():
    ratios = mean_metrics(*questions(90))
    assert bootstrap(ratios) == bootstrap(ratios) != bootstrap(ratios, seed=1)


def test_articles_are_drawn_where_enough_titles_tell_them_apart():
    ratios = mean_metrics(*questions(60))
    few, many = [f"t{n % 4}" for n in range(60)], [f"t{n % 5}" for n in range(60)]
    assert clusters(few) is None and clusters([""] * 60) is None
    assert intervals(ratios, few)["interval"]["resampled"] == "questions"
    found = intervals(ratios, many)
    assert found["interval"] == {"level": 0.95, "resamples": 10_000, "resampled": "articles", "seed": 0}
    assert found["intervals"] == bootstrap(ratios, np.arange(60) % 5)


def test_intervals_reach_as_far_as_students_distribution_says():
    for units in (2, 3, 5, 8, 35, 1_000):
        expected = stats.t.ppf(0.975, units - 1) * (units / (units - 1)) ** 0.5
        assert reach(units) == pytest.approx(expected, rel=1e-6)
        low, high = percentiles(units)
        assert low == pytest.approx(100 * stats.norm.cdf(-expected), rel=1e-5) and high == 100 - low
    assert reach(1) == reach(2)
    assert percentiles(10**6) == pytest.approx((2.5, 97.5), abs=1e-4)


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3.7, 60, 10**6])
def test_quantile_and_p_values_of_students_distribution_are_scipys(freedom):
    for t in (0, -0.3, 2, 9):
        expected = stats.t.ppf(0.975, freedom), 2 * stats.t.sf(abs(t), freedom)
        assert student(freedom, t) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("articles", [5, 8])
def test_intervals_over_few_articles_that_differ_hold_the_mean_as_often_as_they_say(articles):
    """200 samples; over single questions some 60 % would hold it, over articles by plain percentiles 83 to 90 %."""
    draws, held = np.random.default_rng(3), 0
    article = np.repeat(np.arange(articles), 40)
    for _ in range(200):
        values = draws.normal(0, 0.3, articles)[article] + draws.normal(0, 1, len(article))
        low, high = bootstrap(Ratios(["x"], values[:, None], np.ones((len(values), 1))), article, resamples=999)["x"]
        held += low <= 0 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_questions_without_a_title_are_articles_of_their_own():
    titles = [f"t{n % 10}" for n in range(20)] + ["", ""]
    article = clusters(titles)
    assert len(set(article[:20].tolist())) == 10
    assert len(set(article.tolist())) == 12
    assert all((article[:20] == article[n]).sum() == 2 for n in range(20))
