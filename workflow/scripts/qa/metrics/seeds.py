"""The difference between two systems for other questions and other seeds: interval and test over both."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qa.metrics.statistics import student


class OverSeeds(NamedTuple):
    """The ends of intervals at statistics.LEVEL, and two-sided p-values: float64 (metrics,) each."""

    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def over_seeds(differences: np.ndarray, article: np.ndarray | None, seeds: Sequence[np.ndarray]) -> OverSeeds | None:
    """Interval and p-value of mean differences, if other questions were asked and other seeds had trained.

    `differences`: float64 (questions, metrics), means over seeds. `article`: int (questions,), each question's article;
    None draws single questions. `seeds`: the mean scores of each seed, float64 (seeds, metrics), for each set of seeds
    that is drawn by itself: both sides of a comparison, or only their difference if both have the same seeds.

    The difference varies with the articles, which both sides share, and with the seeds of each side. The variance is
    that of a two-level bootstrap, which draws articles and seeds independently of each other (the pigeonhole bootstrap,
    Owen 2007), as a sum of the variances of the levels, each for its number of units less one. Nothing is drawn. The
    sum counts the noise of a seed on a single article twice, so intervals are a little too wide rather than too narrow.
    The interval is Student's, with the degrees of freedom of such a sum (Satterthwaite 1946), since three seeds tell
    little about a variance. None with fewer than two questions (articles), or fewer than two seeds in a set.
    """
    place = np.arange(len(differences)) if article is None else np.unique(article, return_inverse=True)[1]
    units = int(place.max()) + 1
    if min(units, *map(len, seeds)) < 2:
        return None
    mean = differences.mean(axis=0)
    residuals = np.stack([np.bincount(place, column) for column in (differences - mean).T], axis=1)
    levels = [(units / (units - 1) * (residuals**2).sum(axis=0) / len(differences) ** 2, units - 1)]
    levels += [(scores.var(axis=0, ddof=1) / len(scores), len(scores) - 1) for scores in seeds]
    variance = sum(part for part, _ in levels)
    squares = sum(part**2 / freedom for part, freedom in levels)
    found = [_interval(*values) for values in zip(mean, variance, squares, strict=True)]
    reach, p = (np.array(column) for column in zip(*found, strict=True))
    return OverSeeds(mean - reach, mean + reach, p)


def _interval(mean: float, variance: float, squares: float) -> tuple[float, float]:
    """Half the width of the interval of a mean, and the p-value of a mean of 0."""
    if variance == 0:
        return 0.0, float(mean == 0)
    deviation = variance**0.5
    quantile, p = student(variance**2 / squares, mean / deviation)
    return quantile * deviation, p
