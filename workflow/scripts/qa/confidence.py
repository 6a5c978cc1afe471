"""Confidence: how far a model's probabilities can be believed, and a temperature that makes them more believable."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa import softmax

BINS = 15  # as Guo et al. 2017
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are considered
GRID = 25  # of them tried first: with several right candidates the likelihood may have more than one peak
TOLERANCE = 1e-7  # of log T
LEAST_CHANCE = 1e-12  # of an outcome, lest one question has all the loss
ROUNDING = 1e-9  # a sum of probabilities may exceed 1 by so much
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature, and the mean log loss (nats) of the questions that it was fitted on.

    `before`: at T = 1; `after`: at T = `value`; both NaN, and `value` 1, where there was no question.
    """

    value: float
    before: float
    after: float


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
    """Risk of answering only the most confident questions: float64 arrays, a point for each distinct confidence.

    `threshold`: the least confidence that is answered, falling; `coverage`: the share of questions answered; `risk`:
    their mean of 1 - correct. `area`: AURC.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray
    area: float


def probabilities(
    scores: np.ndarray, bounds: np.ndarray, null_scores: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over the scores of each question's candidates and its null score, all divided by a temperature.

    `scores`: float64, one a candidate; `bounds`: int (n + 1,), where each question's candidates begin;
    `null_scores`: float64 (n,). Returns float64 arrays of the shapes of `scores` and `null_scores`. At 1.0 these are
    the probabilities of answers.Decision. Raises ValueError for shapes that do not fit and scores that are not finite.
    """
    question = _questions_of(scores, bounds, null_scores)
    return softmax.probabilities(scores, question, null_scores, temperature)


def certainty(nbest: Any, answered: np.ndarray) -> dict[str, np.ndarray]:
    """Probability of what was answered to each of n questions, silence included: `calibrated` and `uncalibrated`.

    `nbest`: answers.Listed; `answered`: bool (n,), which questions got a text. Float64 (n,) each; the second is at
    temperature 1.
    """
    first = np.minimum(nbest.bounds[:-1], max(len(nbest.score) - 1, 0))
    raw = probabilities(nbest.score, nbest.bounds, nbest.null_score)
    both = {"calibrated": (nbest.probability, nbest.null_probability), "uncalibrated": raw}
    return {name: np.where(answered, spans[first] if len(spans) else 0.0, null) for name, (spans, null) in both.items()}


def fit_temperature(
    scores: np.ndarray,
    bounds: np.ndarray,
    null_scores: np.ndarray,
    answered: np.ndarray,
    correct: np.ndarray,
    weights: np.ndarray | None = None,
) -> Temperature:
    """The temperature at which the probability of what was answered best says whether it is right.

    It minimises the weighted mean log loss of that probability (see `certainty`) against `correct`, (n,), 0 or 1, over
    all questions: also those where no candidate is right, which a likelihood of the right candidate would leave out.
    Temperature scaling after Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017.
    `scores`, `bounds`, `null_scores`: see `probabilities`, a question's best candidate first; `answered`: bool (n,),
    whether that was the answer, not silence; `weights`: float64 (n,). A minimum beyond LOWEST or HIGHEST gives that
    bound. Raises ValueError as `probabilities` does, and for other shapes.
    """
    question = _questions_of(scores, bounds, null_scores)
    if not answered.shape == correct.shape == null_scores.shape:
        raise ValueError(f"answered {answered.shape} and correct {correct.shape} must have the null scores' shape")
    if not len(null_scores):
        return Temperature(1.0, math.nan, math.nan)
    first = np.minimum(bounds[:-1], max(len(scores) - 1, 0))
    outcome = np.where(answered & (np.diff(bounds) > 0), scores[first] if len(scores) else 0.0, null_scores)
    top = _greatest(scores, question, null_scores)
    wrong = 1.0 - np.asarray(correct, np.float64)

    def loss(log_temperature: float) -> float:
        factor = math.exp(-log_temperature)
        total = np.exp(factor * (null_scores - top))
        total += np.bincount(question, np.exp(factor * (scores - top[question])), len(null_scores))
        sure = np.minimum(np.exp(factor * (outcome - top)) / total, 1.0)
        losses = -np.log(np.where(wrong > 0, 1.0 - sure, sure).clip(LEAST_CHANCE))
        return float(np.average(losses, weights=weights))

    value = math.exp(_minimum(loss, math.log(LOWEST), math.log(HIGHEST)))
    return Temperature(value, loss(0.0), loss(math.log(value)))


def _minimum(function, low: float, high: float) -> float:
    """Where a function of one number is least: the best of a grid, then golden-section search around it."""
    grid = np.linspace(low, high, GRID)
    best = int(np.argmin([function(x) for x in grid]))
    a, b = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, GRID - 1)])
    left, right = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    at_left, at_right = function(left), function(right)
    while b - a > TOLERANCE:
        if at_left <= at_right:
            b, right, at_right = right, left, at_left
            left = b - _GOLDEN * (b - a)
            at_left = function(left)
        else:
            a, left, at_left = left, right, at_right
            right = a + _GOLDEN * (b - a)
            at_right = function(right)
    return min((a, (a + b) / 2, b), key=function)


def _questions_of(scores: np.ndarray, bounds: np.ndarray, null_scores: np.ndarray) -> np.ndarray:
    """The question of each candidate, int; raises ValueError for what `probabilities` refuses."""
    sizes = np.diff(bounds)
    if len(bounds) != len(null_scores) + 1 or bounds[0] != 0 or bounds[-1] != len(scores) or (sizes < 0).any():
        raise ValueError("bounds must rise from 0 to the number of scores and be one more than the null scores")
    if not (np.isfinite(scores).all() and np.isfinite(null_scores).all()):
        raise ValueError("scores and null scores must be finite")
    return np.repeat(np.arange(len(null_scores)), sizes)


def _greatest(scores: np.ndarray, question: np.ndarray, least: np.ndarray) -> np.ndarray:
    """The greatest score of each question, at least `least`: float64 (n,)."""
    top = least.astype(np.float64)
    np.maximum.at(top, question, scores)
    return top


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS, equal_mass: bool = False) -> Reliability:
    """Mean confidence against mean correctness in bins of confidence: what a reliability diagram draws.

    `confidence`: float (n,), from 0 to 1; `correct`: (n,), 0 or 1, or F1 from 0 to 1. Bins have equal widths, each with
    its upper bound (Guo et al. 2017); with `equal_mass` equal numbers of questions, within one (Naeini, Cooper and
    Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", 2015; Nixon et al. 2019), and as
    bounds the least and greatest confidence. Raises ValueError for no question, other shapes and values beyond 0 to 1.
    """
    confidence, correct = checked(confidence, correct)
    order = np.argsort(confidence, kind="stable")
    edges = np.linspace(0, 1, bins + 1)
    if equal_mass:
        # equals share their correctness, or the bins would depend on the order of the questions
        _, group = np.unique(confidence, return_inverse=True)
        correct = (np.bincount(group, correct) / np.bincount(group))[group]
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) * bins // len(order)
    else:
        place = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    some = np.flatnonzero(count)
    means = [np.bincount(place, values, bins)[some] / count[some] for values in (confidence, correct)]
    if equal_mass:
        last = np.cumsum(count[some])
        ends = confidence[order][last - count[some]], confidence[order][last - 1]
    else:
        ends = edges[some], edges[some + 1]
    return Reliability(*ends, count[some], *means)


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = BINS, equal_mass: bool = False
) -> float:
    """Mean gap, from 0 to 1, between confidence and correctness over bins, weighted by their questions (ECE).

    Naeini et al. 2015; with bins of equal width as Guo et al. 2017. Arguments and errors are those of `reliability`.
    """
    found = reliability(confidence, correct, bins, equal_mass)
    return float(np.average(np.abs(found.accuracy - found.confidence), weights=found.count))


def brier(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Mean squared difference of confidence and correctness, from 0 to 1 (Brier, "Verification of forecasts", 1950).

    Of the two outcomes right and wrong only right is counted, so it is half of Brier's own figure. Arguments and errors
    are those of `reliability`.
    """
    confidence, correct = checked(confidence, correct)
    return float(np.mean((confidence - correct) ** 2))


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """Risk against coverage when only the most confident questions are answered, and the area under that curve.

    Geifman and El-Yaniv, "Selective classification for deep neural networks", 2017. Questions of equal confidence are
    answered together. The area is the mean, over the questions, of the risk at each one's confidence as threshold (AURC
    of Geifman, Uziel and El-Yaniv 2019). Arguments and errors are those of `reliability`.
    """
    confidence, correct = checked(confidence, correct)
    threshold, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    answered = np.cumsum(count)
    risk = np.cumsum(np.bincount(group, 1.0 - correct)) / answered
    area = float(np.average(risk, weights=count))
    return RiskCoverage(-threshold, answered / len(confidence), risk, area)


def checked(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (n,), from 0 to 1 but for rounding; raises ValueError where they are not."""
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if confidence.ndim != 1 or confidence.shape != correct.shape or not len(confidence):
        raise ValueError(f"confidence {confidence.shape} and correct {correct.shape} must be of one shape (n,), n > 0")
    for name, values in (("confidence", confidence), ("correct", correct)):
        if not ((values >= 0) & (values <= 1 + ROUNDING)).all():
            raise ValueError(f"{name} must be from 0 to 1")
    return np.minimum(confidence, 1), np.minimum(correct, 1)
