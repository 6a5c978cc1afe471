"""How far the measures of confidence would move with another sample of questions."""

from collections.abc import Callable

import numpy as np

from qa import statistics
from qa.confidence import BINS, checked

MEASURES = ("ece", "brier", "aurc")
RESAMPLES = 200  # of these, which cost more than means do; enough for a standard error (Efron and Tibshirani 1993)


def intervals(
    confidence: np.ndarray, correct: np.ndarray, article: np.ndarray | None = None, resamples: int = RESAMPLES
) -> dict[str, list[float]]:
    """Bootstrap intervals of `ece`, `brier` and `aurc`: {name: [low, high]}, from 0 to 1, at statistics.LEVEL.

    Questions are drawn, or given each one's `article`, int (n,), whole articles, as in statistics.bootstrap. Of the
    resamples the standard deviation is taken, `statistics.reach` times, to both sides. Calibration errors are too high
    on average, and those of resamples, which hold questions twice, even more so (Kumar, Liang and Ma, "Verified
    uncertainty calibration", 2019): what resamples add on average is taken off the figure first. Other arguments and
    errors are those of `reliability`.
    """
    confidence, correct = checked(confidence, correct)
    order = np.argsort(-confidence, kind="stable")  # once: resamples are then read from front to back
    article = None if article is None else np.asarray(article)[order]
    measured = _measures(confidence[order], correct[order])
    whole = measured(np.ones((1, len(confidence))))
    draws = statistics.question_draws(len(correct), article, resamples)
    drawn = np.concatenate([measured(times) for times in draws])
    reach = statistics.reach(len(correct if article is None else np.unique(article))) * drawn.std(axis=0, ddof=1)
    ends = np.clip(2 * whole - drawn.mean(axis=0) + np.stack([-reach, reach]), 0, 1)
    return dict(zip(MEASURES, ends.T.tolist(), strict=True))


def _measures(confidence: np.ndarray, correct: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What gives MEASURES where each question counts so many times: float64 (resamples, n) to (resamples, 3).

    The surest question comes first.
    """
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    bins, equal = _first_of_each(place), _first_of_each(confidence)
    gap, square, fault = correct - confidence, (confidence - correct) ** 2, 1 - correct

    def measured(times: np.ndarray) -> np.ndarray:
        count = np.add.reduceat(times, equal, axis=1)
        wrong = np.add.reduceat(times * fault, equal, axis=1)
        risk = np.cumsum(wrong, axis=1) / np.maximum(np.cumsum(count, axis=1), 1)
        ece = np.abs(np.add.reduceat(times * gap, bins, axis=1)).sum(axis=1)
        return np.stack([ece, times @ square, (risk * count).sum(axis=1)], axis=1) / times.sum(axis=1, keepdims=True)

    return measured


def _first_of_each(ordered: np.ndarray) -> np.ndarray:
    """Where runs of equal values begin: int (runs,)."""
    return np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)
