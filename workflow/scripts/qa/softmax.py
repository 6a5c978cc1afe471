"""The softmax over the candidates of each question and silence, which every probability here comes from."""

import numpy as np


def log_probabilities(
    score: np.ndarray, question: np.ndarray, null_score: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the probabilities of candidates and of silence, where a question's add up to 1.

    `score`, `question`: float64 and int, one a candidate; `null_score`: float64 (n,). Scores are divided by
    `temperature`. Returns float64 arrays of the shapes of `score` and `null_score`.
    """
    top = null_score.astype(np.float64)
    np.maximum.at(top, question, score)
    weights = np.bincount(question, np.exp((score - top[question]) / temperature), len(null_score))
    total = np.log(np.exp((null_score - top) / temperature) + weights)
    return (score - top[question]) / temperature - total[question], (null_score - top) / temperature - total


def probabilities(
    score: np.ndarray, question: np.ndarray, null_score: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities themselves; see `log_probabilities`."""
    spans, silence = log_probabilities(score, question, null_score, temperature)
    return np.exp(spans), np.exp(silence)
