"""Curves: what answering only the surest questions would cost, before and after calibration."""

from pathlib import Path

import numpy as np

from qa.common.files import read_json, written_aside
from qa.data.read_records import titles_and_golds
from qa.decoding import probabilities
from qa.decoding.answers import read_nbest
from qa.metrics import confidence, squad

COLUMNS = ("probabilities", "threshold", "coverage", "risk")


def write_risk_coverage(
    records_file: str | Path, answers_file: str | Path, nbest_file: str | Path, target: str | Path
) -> None:
    """Write the risk-coverage curves as CSV: a row for each distinct probability, the surest questions first.

    `probabilities` says which (see probabilities.certainty); `threshold` is the least probability that is answered,
    `coverage` the share of questions answered then, `risk` the share of those that are no exact match; from 0 to 1.
    """
    import csv

    _, golds = titles_and_golds(records_file)
    texts, nbest = read_json(answers_file), read_nbest(nbest_file)
    exact, _ = squad.raw_scores(golds, texts)
    correct = np.array([exact[key] for key in nbest.best], float)
    answered = np.array([bool(texts[key]) for key in nbest.best])
    with written_aside(target) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, sure in probabilities.certainty(nbest, answered).items():
            curve = confidence.risk_coverage(sure, correct)
            points = zip(curve.threshold, curve.coverage, curve.risk, strict=True)
            writer.writerows([name, *(f"{value:.6g}" for value in point)] for point in points)
