"""Confidence: how far a model's probabilities can be believed, and how far these measures vary with the questions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qa.metrics import statistics

MEASURES = ("ece", "brier", "aurc")
RESAMPLES = 200  # enough for a standard error (Efron and Tibshirani 1993); these measures cost more than means
BINS = 15  # as Guo et al. 2017
ROUNDING = 1e-9  # how far a sum of probabilities may exceed 1


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram that hold a question: arrays (bins,).

    `low`, `high`: float64, the bin's bounds; `count`: int; `confidence`, `accuracy`: float64, means from 0 to 1.
    """

    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class RiskCoverage:
    """Error rate if only the most confident questions are answered: float64 arrays, a point for each confidence.

    `threshold`: the lowest confidence that is answered, in falling order; `coverage`: the share of questions answered;
    `risk`: the mean of 1 - correct over them.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Mean confidence against mean correctness in bins of confidence: what a reliability diagram draws.

    `confidence`: float (n,), from 0 to 1; `correct`: (n,), 0 or 1, or F1 from 0 to 1. Bins have equal widths and
    include their upper bound (Guo et al. 2017). Raises ValueError for no question, other shapes, and values outside 0
    to 1.
    """
    confidence, correct = checked(confidence, correct)
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    filled = np.flatnonzero(count)
    means = [np.bincount(place, values, bins)[filled] / count[filled] for values in (confidence, correct)]
    return Reliability(edges[filled], edges[filled + 1], count[filled], *means)


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """Error rate (risk) against the share answered (coverage) if only the most confident questions are answered.

    Geifman and El-Yaniv, "Selective classification for deep neural networks", 2017. Questions of equal confidence are
    answered together. Arguments and errors are those of `reliability`.
    """
    confidence, correct = checked(confidence, correct)
    threshold, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    answered = np.cumsum(count)
    risk = np.cumsum(np.bincount(group, 1.0 - correct)) / answered
    return RiskCoverage(-threshold, answered / len(confidence), risk)


def measures(confidence: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """MEASURES: how far a confidence can be believed, each from 0 to 1, lower is better.

    `ece`: expected calibration error, the mean gap between confidence and correctness of the bins of `reliability`,
    weighted by their questions (Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", 2015). `brier`: mean squared difference of confidence and correctness (Brier, "Verification of forecasts",
    1950; half of his own figure, since only the outcome "right" is counted, not "wrong"). `aurc`: the area under risk
    against coverage, which is the mean risk over the questions, with the confidence of each as the threshold (Geifman,
    Uziel and El-Yaniv 2019). Arguments and errors are those of `reliability`.
    """
    confidence, correct = checked(confidence, correct)
    order = np.argsort(-confidence)
    (values,) = _measured(confidence[order], correct[order])(np.ones((1, len(order))))
    return dict(zip(MEASURES, values.tolist(), strict=True))


def checked(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (n,), at most 1; raises ValueError for values outside 0 to 1 by more than rounding."""
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if confidence.ndim != 1 or confidence.shape != correct.shape or not len(confidence):
        raise ValueError(f"confidence {confidence.shape} and correct {correct.shape} must be of one shape (n,), n > 0")
    for name, values in (("confidence", confidence), ("correct", correct)):
        if not ((values >= 0) & (values <= 1 + ROUNDING)).all():
            raise ValueError(f"{name} must be from 0 to 1")
    return np.minimum(confidence, 1), np.minimum(correct, 1)


def intervals(
    confidence: np.ndarray, correct: np.ndarray, article: np.ndarray | None = None, resamples: int = RESAMPLES
) -> dict[str, list[float]]:
    """Bootstrap intervals of `measures`: {name: [low, high]}, from 0 to 1, at statistics.LEVEL.

    A resample draws questions, or with `article`, int (n,), whole articles, as in statistics.bootstrap. An interval
    reaches `statistics.reach` standard deviations of the resamples to both sides. Calibration errors are too high on
    average (Kumar, Liang and Ma, "Verified uncertainty calibration", 2019), those of resamples even more, since they
    hold questions twice. So the mean excess of the resamples is first subtracted from the figure. Other arguments and
    errors are those of `reliability`.
    """
    confidence, correct = checked(confidence, correct)
    order = np.argsort(-confidence, kind="stable")  # sorted once for all resamples
    article = None if article is None else np.asarray(article)[order]
    measured = _measured(confidence[order], correct[order])
    whole = measured(np.ones((1, len(confidence))))
    draws = statistics.question_draws(len(correct), article, resamples)
    drawn = np.concatenate([measured(times) for times in draws])
    reach = statistics.reach(len(correct if article is None else np.unique(article))) * drawn.std(axis=0, ddof=1)
    ends = np.clip(2 * whole - drawn.mean(axis=0) + np.stack([-reach, reach]), 0, 1)
    return dict(zip(MEASURES, ends.T.tolist(), strict=True))


def _measured(confidence: np.ndarray, correct: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from counts of the questions, float64 (resamples, n), to MEASURES, float64 (resamples, 3).

    Questions are in falling order of confidence.
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
    """Index of the first of each run of equal values: int (runs,)."""
    return np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)
