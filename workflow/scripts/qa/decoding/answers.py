"""Answers: what the scores of candidates decide for each question."""

from dataclasses import dataclass

import numpy as np

from qa.decoding.probabilities import softmax

NO_SPAN = -1.0e6  # stands for the best score of a question without any span: JSON has no -inf


@dataclass
class Candidates:
    """Spans of text that may answer questions, in order of question, best first.

    One value a candidate: `record`: int, the number of its question; `start`, `stop`: int, characters of the context;
    `score`: float64, start plus end logit. One value a question: `null_score`: float64, the least over its windows;
    `windows`: int, how many it has.
    """

    record: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    score: np.ndarray
    null_score: np.ndarray
    windows: np.ndarray


@dataclass
class Decision:
    """What the scores of candidates say about n questions.

    `bounds`: int (n + 1,), where each question's candidates begin; `difference`: float64 (n,), the null score minus the
    best span's score; `answered`: bool (n,); `probability`: float64, one a candidate, and `null_probability`: float64
    (n,), together a softmax over a question's candidates and its null score.
    """

    bounds: np.ndarray
    difference: np.ndarray
    answered: np.ndarray
    probability: np.ndarray
    null_probability: np.ndarray


def decide(candidates: Candidates, threshold: float, temperature: float | None = None) -> Decision:
    """Weigh the candidates of all questions against null.

    A question gets no answer where null score - best score > `threshold`, or where it has no candidate (the official
    null rule). With a `temperature`, probabilities are calibrated: all scores are divided by it, and a finite
    `threshold` is first subtracted from the null scores. The more probable outcome is then the one decided on.
    """
    record, score, null = candidates.record, candidates.score, candidates.null_score
    bounds = np.searchsorted(record, np.arange(len(null) + 1, dtype=record.dtype))
    some = np.flatnonzero(np.diff(bounds))
    best = np.full(len(null), -np.inf)
    best[some] = score[bounds[some]]
    difference = null - np.where(best > -np.inf, best, NO_SPAN)
    answered = (difference <= threshold) & (best > -np.inf)
    if temperature is not None and np.isfinite(threshold):
        null = null - threshold
    return Decision(bounds, difference, answered, *softmax(score, record, null, temperature or 1.0))
