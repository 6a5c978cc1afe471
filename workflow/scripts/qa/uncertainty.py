"""How far the measures of confidence would move with another sample of questions."""

from collections.abc import Callable
from statistics import NormalDist

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
    resamples the standard deviation is taken, and a normal distribution around the figure itself: questions drawn twice
    make the resamples' calibration errors too high on average (Kumar, Liang and Ma, "Verified uncertainty calibration",
    2019). Other arguments and errors are those of `reliability`.
    """
    confidence, correct = checked(confidence, correct)
    measured = _measures(confidence, correct)
    whole = measured(np.ones((1, len(confidence))))
    draws = statistics.question_draws(len(correct), article, resamples)
    drawn = np.concatenate([measured(times) for times in draws])
    reach = NormalDist().inv_cdf((1 + statistics.LEVEL) / 2) * drawn.std(axis=0, ddof=1)
    ends = np.clip(whole + np.stack([-reach, reach]), 0, 1)
    return dict(zip(MEASURES, ends.T.tolist(), strict=True))


def _measures(confidence: np.ndarray, correct: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What gives MEASURES where each question counts so many times: float64 (resamples, n) to (resamples, 3).

    The questions are put in order once, however many resamples follow.
    """
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    gaps = np.zeros((len(confidence), BINS))
    gaps[np.arange(len(confidence)), place] = correct - confidence
    order = np.argsort(-confidence, kind="stable")
    first = np.flatnonzero(np.diff(-confidence[order], prepend=np.nan) != 0)  # of the questions of equal confidence
    fault, square = 1 - correct[order], ((confidence - correct) ** 2)[:, None]

    def measured(times: np.ndarray) -> np.ndarray:
        total, ordered = times.sum(axis=1, keepdims=True), times[:, order]
        count = np.add.reduceat(ordered, first, axis=1)
        wrong = np.add.reduceat(ordered * fault, first, axis=1)
        answered = np.cumsum(count, axis=1)
        risk = np.cumsum(wrong, axis=1) / np.maximum(answered, 1)
        ece = np.abs(times @ gaps).sum(axis=1, keepdims=True)
        squares = times @ square
        return np.concatenate([ece, squares, (risk * count).sum(axis=1, keepdims=True)], axis=1) / total

    return measured
