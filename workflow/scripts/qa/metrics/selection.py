"""Selection: the best of several systems by their scores on the same questions, and how much too high its score is."""

from dataclasses import dataclass

import numpy as np

from qa.metrics import statistics


@dataclass
class Selection:
    """What k systems score on the same questions.

    `scores`: float64 (k,), weighted means in percent; `intervals`: float64 (k, 2), their percentile bootstrap intervals
    (see statistics.percentiles); `highest`: float64 (k,), the percentage of resamples in which each one is the highest;
    `optimism`: by how many points the highest score is too high in expectation, because it is the highest.
    """

    scores: np.ndarray
    intervals: np.ndarray
    highest: np.ndarray
    optimism: float


def select(
    values: np.ndarray, weights: np.ndarray, article: np.ndarray | None = None, resamples: int = statistics.RESAMPLES
) -> Selection:
    """Compare systems by float64 (questions, systems), from 0 to 1, with float64 (questions,) as weights.

    Each resample of questions, or of whole articles, chooses the highest system. The optimism is the mean, over
    resamples, by which the chosen system scores less than the highest one of all questions, on the questions that were
    not drawn. This is the bootstrap bias correction of Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the
    out-of-sample predictions for efficient and accurate cross-validation" (2018), paired. For equally good systems it
    is right in expectation, where Efron's estimate (1983), from the drawn questions, is too low by a factor of about
    the root of 2; for systems that differ it is somewhat too high.
    """
    weighted = weights[:, None] * values
    scores = weighted.sum(axis=0) / weights.sum()
    best, drawn, losses = int(np.argmax(scores)), [], []
    for times in statistics.question_draws(len(values), article, resamples):
        drawn.append(times @ weighted / (times @ weights)[:, None])
        left = (times == 0).astype(float)
        weight = left @ weights
        sums = (left @ weighted)[weight > 0]  # a resample may leave nothing out
        chosen = np.argmax(drawn[-1], axis=1)[weight > 0]
        losses.append((sums[:, best] - sums[np.arange(len(sums)), chosen]) / weight[weight > 0])
    resampled, loss = np.concatenate(drawn), np.concatenate(losses)
    ends = statistics.percentiles(len(values) if article is None else len(np.unique(article)))
    highest = np.bincount(np.argmax(resampled, axis=1), minlength=len(scores)) / resamples
    optimism = float(loss.mean()) if len(loss) else 0.0
    return Selection(
        100 * scores, 100 * np.percentile(resampled, ends, axis=0).T, 100 * highest, 100 * max(0.0, optimism)
    )
