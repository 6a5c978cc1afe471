"""Risk-coverage curves: the error rate when only the most confident questions are answered."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from qa.common.files import write_csv
from qa.evaluation import question_scores
from qa.metrics import confidence

COLUMNS = ("probabilities", "threshold", "coverage", "risk")
PROBABILITIES = {"calibrated": "probability", "uncalibrated": "uncalibrated_probability"}  # and their columns


def write_risk_coverage(scores_file: str | Path, target: str | Path) -> None:
    """Write the curves of question_scores.parquet as CSV: a row a distinct probability, the most confident first.

    `probabilities` is a key of PROBABILITIES; `threshold` the least probability that is answered, `coverage` the share
    of questions answered then, `risk` the share of those that are no exact match; all from 0 to 1. Unknown
    probabilities have no curve.
    """
    scores = question_scores.read(scores_file, numbers=("exact", *PROBABILITIES.values()))
    write_csv(target, COLUMNS, _points(scores))


def _points(scores: Mapping[str, np.ndarray]) -> Iterator[dict[str, str]]:
    for name, column in PROBABILITIES.items():
        if np.isnan(scores[column]).any():
            continue
        curve = confidence.risk_coverage(scores[column], scores["exact"])
        for point in zip(curve.threshold, curve.coverage, curve.risk, strict=True):
            yield dict(zip(COLUMNS, (name, *(f"{value:.6g}" for value in point)), strict=True))
