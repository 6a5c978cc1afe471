"""Probabilities of candidates and of no answer, the temperature that calibrates them, and a logistic curve."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 50_000  # questions whose candidates are weighed at once
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are considered
GRID = 25  # temperatures tried first: with several right candidates the likelihood may have more than one peak
TOLERANCE = 1e-7  # of log T, and of a logistic regression's parameters
STEPS = 100  # at most, of a logistic regression
LEAST_SLOPE = 1e-3  # of a logistic curve, in log odds for a standard deviation
LEAST_CHANCE = 1e-12  # of an outcome, so that no single question dominates the loss
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Logistic:
    """Probability that a question is unanswerable: a logistic curve of its null score minus its best span's score."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, difference: np.ndarray) -> np.ndarray:
        """The probabilities, float64 (n,), in the order of `difference`, float64 (n,)."""
        return np.exp(-np.logaddexp(0, -(self.slope * difference + self.intercept)))


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


def fit_logistic(difference: np.ndarray, unanswerable: np.ndarray, weights: np.ndarray) -> Logistic:
    """Fit the probability that a question is unanswerable, by weighted maximum likelihood.

    `difference`, `weights`: float64 (n,), a difference of inf is left out; `unanswerable`: bool (n,). The labels are
    nearly 0 and 1, so that all questions may be of one kind (Platt, "Probabilistic outputs for support vector
    machines", 1999). The slope is above 0, so that probabilities are in the order of differences.
    """
    found = np.isfinite(difference)
    difference, unanswerable, weights = difference[found], unanswerable[found], weights[found]
    if not len(difference):
        return Logistic()
    yes, no = unanswerable.sum(), (~unanswerable).sum()
    label = np.where(unanswerable, (yes + 1) / (yes + 2), 1 / (no + 2))
    mean, deviation = difference.mean(), difference.std() or 1.0
    design = np.stack([(difference - mean) / deviation, np.ones(len(label))])

    def loss(values: np.ndarray) -> float:
        line = values @ design
        return float(weights @ (np.logaddexp(0, line) - label * line))

    values = np.zeros(2)
    for _ in range(STEPS):  # Newton's, halved until they lessen the loss
        chance = Logistic()(values @ design)
        curvature = (design * weights * chance * (1 - chance)) @ design.T + TOLERANCE * np.eye(2)
        step = np.linalg.solve(curvature, design @ (weights * (chance - label)))
        while loss(values - step) > loss(values) and np.abs(step).max() > TOLERANCE:
            step = step / 2
        values = values - step
        if np.abs(step).max() <= TOLERANCE:
            break
    if values[0] < LEAST_SLOPE:
        share = np.average(label, weights=weights)
        values = np.array([LEAST_SLOPE, math.log(share / (1 - share))])
    return Logistic(float(values[0] / deviation), float(values[1] - values[0] * mean / deviation))


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
