"""The null threshold of held-out questions: their scores with and without an answer, and the best threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qa.decoding.answers import Candidates, decide
from qa.metrics import squad

SHRINKAGE = 100  # of 100, 200 and 300, the least loss of what many questions gain: see the benchmark
WIDTH = 0.5  # of the sigmoid that smooths a question's answer, in standard deviations, for one question
GRID = 500  # thresholds that are tried
BEYOND = 1e6  # logits above all others


@dataclass
class CalibrationQuestions:
    """What calibration knows of n questions, from their candidates and their gold answers.

    `difference`: float64 (n,), the null score minus the best span's score, inf without a span; `exact`, `f1`: float64
    (n,), from 0 to 1, of the best span as the answer; `unanswerable`: bool (n,), which is also the score of no answer.
    """

    difference: np.ndarray
    exact: np.ndarray
    f1: np.ndarray
    unanswerable: np.ndarray


def questions_of(
    candidates: Candidates, golds: Sequence[Sequence[str]], contexts: Sequence[str], f1_by: str = "words"
) -> CalibrationQuestions:
    """Score each question's best candidate, a span of its context, as its answer; "" where it has none."""
    decision = decide(candidates, np.inf)
    best = [
        context[candidates.start[first] : candidates.stop[first]] if first < beyond else ""
        for context, (first, beyond) in zip(contexts, pairwise(decision.bounds.tolist()), strict=True)
    ]
    difference = np.where(decision.answered, decision.difference, np.inf)
    numbered = {str(number): list(gold) for number, gold in enumerate(golds)}
    raw = squad.raw_scores(numbered, dict(zip(numbered, best, strict=True)), f1_by)
    values = [np.array([scores[key] for key in numbered], float) for scores in raw]
    return CalibrationQuestions(difference, *values, np.array([not gold for gold in golds]))


def together(parts: list[CalibrationQuestions]) -> CalibrationQuestions:
    """The questions of all parts, one after the other."""
    names = ("difference", "exact", "f1", "unanswerable")
    return CalibrationQuestions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def prior_weights(unanswerable: np.ndarray, prior: float | None) -> np.ndarray:
    """A weight for each question, so that the unanswerable ones have the share `prior` (from 0 to 1) of all weight.

    All weights are 1 without a prior, or without questions of both kinds. After Saerens, Latinne and Decaestecker 2002:
    importance weights for another share of the classes.
    """
    share = unanswerable.mean()
    if prior is None or share in (0.0, 1.0):
        return np.ones(len(unanswerable))
    return np.where(unanswerable, prior / share, (1 - prior) / (1 - share))


def fit_threshold(questions: CalibrationQuestions, metric: str, weights: np.ndarray) -> float:
    """The null threshold with the greatest weighted mean of `metric` (exact or f1), smoothed and shrunk towards 0.

    A question with a span counts as answered by a sigmoid of the threshold minus its difference instead of a step, so a
    few questions do not decide. The sigmoid's width falls with the number n of questions with a span, as n^(-1/5)
    (Horowitz, "A smoothed maximum score estimator for the binary response model", 1992). The threshold is then
    multiplied by n z^2 / (n z^2 + SHRINKAGE), where z is the smoothed gain over threshold 0 in its standard errors. So
    it stays near 0 where that gain may be chance. benchmarks/calibration_bench.py measures it. The threshold lies
    beyond every span if no question is unanswerable, and is 0 if no question has a span.
    """
    return float(fit_thresholds(questions, metric, weights, np.ones((1, len(weights))))[0])


def fit_thresholds(questions: CalibrationQuestions, metric: str, weights: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The `fit_threshold` of m resamples, float64 (m,); `times`: float64 (m, n), how often each question is drawn."""
    found = np.isfinite(questions.difference)
    difference, times = questions.difference[found], times[:, found]
    if not questions.unanswerable.any():
        return np.full(len(times), difference.max(initial=0.0) + BEYOND)
    if not len(difference):
        return np.zeros(len(times))
    gain = (weights * (getattr(questions, metric) - questions.unanswerable))[found]  # of answering, not abstaining
    deviation = difference.std() or 1.0
    thresholds = np.linspace(difference.min() - deviation, difference.max() + deviation, GRID)
    # Each difference is rounded to the nearest of the thresholds, so that only GRID sums are needed.
    place = np.rint((difference - thresholds[0]) / (thresholds[1] - thresholds[0])).astype(int)
    gains, squares = (np.stack([np.bincount(place, row * x, GRID) for row in times]) for x in (gain, gain**2))
    width = WIDTH * deviation * len(difference) ** -0.2

    def answered(threshold: np.ndarray) -> np.ndarray:
        return 0.5 + 0.5 * np.tanh((threshold - thresholds[:, None]) / (2 * width))  # a sigmoid that cannot overflow

    best = np.argmax(gains @ answered(thresholds), axis=1)
    more = (answered(thresholds[best]) - answered(np.zeros(1))).T
    evidence = len(difference) * np.sum(gains * more, axis=1) ** 2  # n z^2, times the variance of the gain
    noise = SHRINKAGE * np.sum(squares * more**2, axis=1)
    total = evidence + noise
    return thresholds[best] * np.divide(evidence, total, out=np.zeros(len(total)), where=total > 0)


def scores_at(questions: CalibrationQuestions, threshold: float, weights: np.ndarray) -> dict[str, float]:
    """Weighted EM and F1 in percent, and the share answered, with a null threshold."""
    answered = questions.difference <= threshold
    values = {
        "exact": np.where(answered, questions.exact, questions.unanswerable),
        "f1": np.where(answered, questions.f1, questions.unanswerable),
        "answered": answered,
    }
    return {name: float(100.0 * np.average(value, weights=weights)) for name, value in values.items()}
