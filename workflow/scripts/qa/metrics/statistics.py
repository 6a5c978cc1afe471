"""Statistics: confidence intervals of mean scores, and paired tests of the difference between two systems."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from qa.common.progress import Progress

LEVEL = 0.95
RESAMPLES = 10_000
FLIPS = 10_000  # assignments of a paired randomisation test: all, or so many random ones if there are more
SEED = 0  # fixed, so that the same scores have the same intervals
LEAST_ARTICLES = 5  # with fewer, 95 % intervals hold the mean only 86 to 89 % of the time
CELLS = 1_000_000  # draws in memory at once
ROUNDING = 1e-9  # two sums of differences are equal if they differ by less than this share of their sizes
POINTS = 20_001  # of the grid on which Student's distribution is integrated
DRAWS_A_GROUP = 16  # one multinomial draw of a group takes as long as this many draws of single units


@dataclass
class Ratios:
    """Metrics that are ratios of sums over questions, in percent.

    `names`: the metrics; `numerator`, `denominator`: float64 (questions, metrics).
    """

    names: list[str]
    numerator: np.ndarray
    denominator: np.ndarray


def mean_metrics(
    gold_answers: Mapping[str, Sequence[str]],
    exact: Mapping[str, float],
    f1_scores: Mapping[str, float],
    texts: Mapping[str, str],
) -> Ratios:
    """The mean metrics of answers: exact, f1, both with HasAns_ and NoAns_ if there are such questions, and answered.

    `exact` and `f1_scores` are from 0 to 1. All mappings are by question id.
    """
    has_answer = np.array([bool(golds) for golds in gold_answers.values()])
    values = {
        "exact": np.array([exact[key] for key in gold_answers], float),
        "f1": np.array([f1_scores[key] for key in gold_answers], float),
    }
    all_questions = np.ones(len(has_answer))
    columns = [(name, value, all_questions) for name, value in values.items()]
    for prefix, chosen in (("HasAns_", has_answer), ("NoAns_", ~has_answer)):
        if chosen.any():
            columns += [(prefix + name, value * chosen, chosen.astype(float)) for name, value in values.items()]
    columns.append(("answered", np.array([bool(texts[key]) for key in gold_answers], float), all_questions))
    names, numerators, denominators = zip(*columns, strict=True)
    return Ratios(list(names), np.stack(numerators, axis=1), np.stack(denominators, axis=1))


def clusters(titles: Sequence[str]) -> np.ndarray | None:
    """The article of each question as a number, int (questions,); None if there are fewer than LEAST_ARTICLES titles.

    A question without a title is an article of its own. With None, questions are drawn as if they were independent, so
    intervals are too narrow if articles differ.
    """
    distinct, article = np.unique(np.array(titles, object).astype(str), return_inverse=True)
    if np.count_nonzero(distinct != "") < LEAST_ARTICLES:
        return None
    alone = np.flatnonzero(np.array([not title for title in titles]))
    article[alone] = len(distinct) + np.arange(len(alone))
    return article


def bootstrap(
    ratios: Ratios,
    article: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    grouped: bool = True,
) -> dict[str, list[float]]:
    """Percentile bootstrap intervals of ratios (Efron and Tibshirani 1993): {name: [low, high]} in percent, at LEVEL.

    `percentiles` says which percentiles are the ends of the interval.

    A resample draws as many questions as there are, with replacement. With `article` it draws whole articles, since
    questions about one text are not independent (cluster bootstrap, Davison and Hinkley 1997). A resample that holds no
    question of a metric is left out for that metric.

    With `grouped`, questions (articles) of equal sums form a group, and one multinomial draw says how often the group
    occurs. Without it, the draws depend only on the seed and the number of questions (articles), so the interval of one
    metric does not depend on the other metrics.
    """
    sums = np.concatenate([ratios.numerator, ratios.denominator], axis=1)
    sums = _sums(sums, article)
    groups, counts = np.unique(sums, axis=0, return_counts=True) if grouped else (sums, np.ones(len(sums), int))
    order = np.argsort(-counts, kind="stable")  # a multinomial draw ends sooner if the greatest groups come first
    drawn = _drawn(counts[order], resamples, np.random.default_rng(seed))
    numerator, denominator = np.split(np.concatenate([times @ groups[order] for times in drawn]), 2, axis=1)
    ends = percentiles(int(counts.sum()))
    intervals = {}
    for name, above, below in zip(ratios.names, numerator.T, denominator.T, strict=True):
        known = below > 0
        intervals[name] = np.percentile(100 * above[known] / below[known], ends).tolist()
    return intervals


def student(freedom: float, t: float = 0.0) -> tuple[float, float]:
    """Student's distribution: the quantile that |T| exceeds in 1 - LEVEL of all cases, and P(|T| > |t|), t's p-value.

    `freedom`: the degrees of freedom, at least 1. The density is integrated over the angle whose tangent is t, since
    it is finite up to the right angle.
    """
    angle = np.linspace(0, np.pi / 2, POINTS)
    square = np.tan(angle) ** 2
    density = np.exp(-(freedom + 1) / 2 * np.log1p(square / freedom)) * (1 + square)
    steps = density[1:] + density[:-1]
    beyond = np.append(np.cumsum(steps[::-1])[::-1], 0.0) / steps.sum()  # P(|T| > t) at each angle
    quantile = np.tan(np.interp(1 - LEVEL, beyond[::-1], angle[::-1]))
    return float(quantile), float(np.interp(np.arctan(abs(t)), angle, beyond))


def reach(units: int) -> float:
    """Half the width of an interval at LEVEL, in standard deviations of the resamples, if `units` are drawn.

    It is Student's quantile for units - 1 degrees of freedom times the root of units / (units - 1), since resamples
    spread less than means. One unit counts as two.
    """
    units = max(units, 2)
    return student(units - 1)[0] * (units / (units - 1)) ** 0.5


def percentiles(units: int) -> tuple[float, float]:
    """The percentiles of the resamples at the two ends of an interval at LEVEL, if `units` are drawn.

    They are 2.5 and 97.5 for many units. For few units they lie further out, since 2.5 and 97.5 would hold the mean too
    seldom (Hesterberg, "What teachers should know about the bootstrap", 2015).
    """
    outside = 100 * NormalDist().cdf(-reach(units))
    return outside, 100 - outside


def _sums(values: np.ndarray, article: np.ndarray | None) -> np.ndarray:
    """Sums of float64 (questions, columns) over each article; the values themselves without articles."""
    if article is None:
        return values
    _, place = np.unique(article, return_inverse=True)
    totals = np.zeros((place.max() + 1, values.shape[1]))
    np.add.at(totals, place, values)
    return totals


def least_p(units: int) -> float:
    """The least p-value that `randomisation_test` can give if `units` questions (articles) can be swapped."""
    return 2 / 2**units if 2**units <= FLIPS else 1 / (FLIPS + 1)


def randomisation_test(differences: np.ndarray, article: np.ndarray | None = None) -> np.ndarray:
    """Two-sided p-values of paired differences, float64 (questions, metrics): (metrics,).

    Fisher's paired randomisation test (for such scores Noreen 1989, Yeh 2000). If the two systems were equal, the two
    scores of a question could be swapped, which changes the sign of its difference. With `article`, the questions of an
    article are swapped together, since they are not independent. p is the share of all assignments whose sum is at
    least as far from 0 as the observed sum. If there are more than FLIPS assignments and k of FLIPS random ones are
    as far, p = (k + 1) / (FLIPS + 1); this keeps the test valid (Davison and Hinkley 1997). Random assignments depend
    only on SEED and the number of questions (articles).
    """
    sums = _sums(differences, article)
    exact = 2 ** len(sums) <= FLIPS
    flips = 2 ** len(sums) if exact else FLIPS
    observed = np.abs(sums.sum(axis=0)) - ROUNDING * np.abs(sums).sum(axis=0)
    draws, as_far = np.random.default_rng(SEED), np.zeros(sums.shape[1], int)
    step, progress = max(1, CELLS // len(sums)), Progress("test differences", flips, "assignments")
    for first in range(0, flips, step):
        size = min(step, flips - first)
        if exact:
            kept = np.arange(first, first + size)[:, None] >> np.arange(len(sums)) & 1
        else:
            bits = draws.integers(256, size=(size, -(-len(sums) // 8)), dtype=np.uint8)
            kept = np.unpackbits(bits, axis=1, count=len(sums))
        as_far += (np.abs(2 * (kept.astype(float) @ sums) - sums.sum(axis=0)) >= observed).sum(axis=0)
        progress.reach(first + size)
    return as_far / flips if exact else (as_far + 1) / (flips + 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values corrected for their number by Holm's step-down rule (1979), in the same order: float64 (tests,).

    Whoever calls those up to 0.05 significant is wrong about any of them with a probability of at most 0.05, even if
    the tests depend on each other.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(len(p), 0, -1)))
    return corrected


def _drawn(counts: np.ndarray, resamples: int, draws: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield int (resamples, groups), some resamples at a time: how often each group is drawn. `counts`: group sizes."""
    units = counts.sum()
    one_by_one = len(counts) * DRAWS_A_GROUP > units
    step = max(1, CELLS // (units if one_by_one else len(counts)))
    group = np.repeat(np.arange(len(counts)), counts)
    progress = Progress("bootstrap", resamples, "resamples")
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        if one_by_one:
            picked = group[draws.integers(units, size=(size, units), dtype=np.int32)]
            picked += len(counts) * np.arange(size)[:, None]
            yield np.bincount(picked.reshape(-1), minlength=size * len(counts)).reshape(size, -1)
        else:
            yield draws.multinomial(units, counts / units, size)
        progress.reach(first + size)


def question_draws(questions: int, article: np.ndarray | None, resamples: int) -> Iterator[np.ndarray]:
    """Yield float64 (resamples, questions), some resamples at a time: how often each question is drawn.

    Draws are with replacement, as many as there are questions, or with `article`, int (questions,), articles.
    """
    place = np.arange(questions) if article is None else np.unique(article, return_inverse=True)[1]
    draws, units = np.random.default_rng(SEED), int(place.max()) + 1
    step, progress = max(1, CELLS // questions), Progress("bootstrap", resamples, "resamples")
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        picked = draws.integers(units, size=(size, units)) + units * np.arange(size)[:, None]
        times = np.bincount(picked.reshape(-1), minlength=size * units).reshape(size, units)
        yield (times if article is None else times[:, place]).astype(float)
        progress.reach(first + size)


def intervals(ratios: Ratios, titles: Sequence[str]) -> dict[str, Any]:
    """The keys `intervals` (by `bootstrap`) and `interval` (how they were computed) of metrics.json.

    Articles are drawn if there are at least LEAST_ARTICLES titles, else questions. The best thresholds, their scores
    and the average precisions have no interval: the maximum over a sample is biased, and more so over resamples, which
    hold questions twice.
    """
    article = clusters(titles)
    method = {"level": LEVEL, "resamples": RESAMPLES, "resampled": "questions" if article is None else "articles"}
    return {"intervals": bootstrap(ratios, article), "interval": {**method, "seed": SEED}}
