"""Probabilities of candidates and of no answer, and the temperature that calibrates them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 50_000  # questions whose candidates are weighed at once
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are considered
GRID = 25  # temperatures tried first: with several right candidates the likelihood may have more than one peak
TOLERANCE = 1e-7  # of log T
LEAST_CHANCE = 1e-12  # of an outcome, so that no single question dominates the loss
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature, and the mean log loss (nats) of the questions it was fitted on.

    `before` is the loss at T = 1, `after` at T = `value`. Without questions, both are NaN and `value` is 1.
    """

    value: float
    before: float
    after: float


def log_probabilities(
    score: np.ndarray, question: np.ndarray, null_score: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the probabilities of candidates and of no answer; those of one question add up to 1.

    `score`, `question`: float64 and int, one a candidate; `null_score`: float64 (n,). Scores are divided by
    `temperature`. Returns float64 arrays of the shapes of `score` and `null_score`.
    """
    top = _greatest(score, question, null_score)
    spans, null = (score - top[question]) / temperature, (null_score - top) / temperature
    total = np.log(np.exp(null) + np.bincount(question, np.exp(spans), len(null)))
    spans -= total[question]
    return spans, null - total


def softmax(
    score: np.ndarray, question: np.ndarray, null_score: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities themselves; see `log_probabilities`."""
    spans, null = log_probabilities(score, question, null_score, temperature)
    return np.exp(spans, out=spans), np.exp(null)


def probabilities(
    scores: np.ndarray, bounds: np.ndarray, null_scores: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over the scores of each question's candidates and its null score, all divided by a temperature.

    `scores`: float64, one a candidate; `bounds`: int (n + 1,), where each question's candidates begin;
    `null_scores`: float64 (n,). Returns float64 arrays of the shapes of `scores` and `null_scores`: at temperature 1.0,
    the probabilities of answers.Decision. Raises ValueError for shapes that do not fit and scores that are not finite.
    """
    question = _questions_of(scores, bounds, null_scores)
    return softmax(scores, question, null_scores, temperature)


def certainty(nbest: Any, answered: np.ndarray) -> dict[str, np.ndarray]:
    """Probability of the answer to each of n questions, or of no answer where that was decided.

    `nbest`: nbest.NBest; `answered`: bool (n,), which questions got a text. Returns `calibrated` and `uncalibrated`,
    float64 (n,) each; the second is at temperature 1, and NaN where there are no scores.
    """
    sure = {name: np.empty(len(answered)) for name in ("calibrated", "uncalibrated")}
    for begin in range(0, len(answered), BLOCK):
        part = slice(begin, begin + BLOCK)
        bounds = nbest.bounds[begin : begin + BLOCK + 1]
        spans = slice(bounds[0], bounds[-1])
        null = nbest.null_score[part]
        scored = not np.isnan(null).any()
        raw = probabilities(nbest.score[spans], bounds - bounds[0], null) if scored else (nbest.score[spans], null)
        pairs = {"calibrated": (nbest.probability[spans], nbest.null_probability[part]), "uncalibrated": raw}
        for name, (of_spans, of_null) in pairs.items():
            first = np.minimum(bounds[:-1] - bounds[0], max(len(of_spans) - 1, 0))
            sure[name][part] = np.where(answered[part], of_spans[first] if len(of_spans) else 0.0, of_null)
    return sure


def fit_temperature(
    scores: np.ndarray,
    bounds: np.ndarray,
    null_scores: np.ndarray,
    answered: np.ndarray,
    correct: np.ndarray,
    weights: np.ndarray | None = None,
) -> Temperature:
    """Fit the temperature at which the probability of an answer best predicts whether the answer is right.

    The fit minimises the weighted mean log loss of that probability (see `certainty`) against `correct`, (n,), 0 or 1.
    It covers all questions: a likelihood of the right candidate would leave out those where no candidate is right.
    Temperature scaling after Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017.

    `scores`, `bounds`, `null_scores`: see `probabilities`, a question's best candidate first; `answered`: bool (n,),
    whether that candidate was the answer; `weights`: float64 (n,). A minimum beyond LOWEST or HIGHEST gives that bound.
    Raises ValueError as `probabilities` does, and for other shapes.
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
    """Where a function of one number is least: the best place of a grid, then golden-section search around it."""
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
