"""Risk-coverage curves of scored questions, against a computation question by question."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from qa.evaluation import risk_coverage

SCORES = [[2.0, 0.5], [1.0], [3.0, 1.0, 0.0], [], [0.0]]
NULLS = [0.0, 2.0, 1.0, 0.5, 0.0]
TEXTS = ["mill", "", "weir", "", "mill"]
RIGHT = [True, True, False, True, True]
TEMPERATURE = 2.0


def softmax(scores, null, temperature):
    weights = np.exp(np.array([*scores, null]) / temperature)
    return weights / weights.sum()


def scores_file(path):
    rows = []
    for number, (scores, null, text) in enumerate(zip(SCORES, NULLS, TEXTS, strict=True)):
        calibrated, raw = (softmax(scores, null, temperature)[0 if text else -1] for temperature in (TEMPERATURE, 1.0))
        rows.append({"id": f"q{number}", "exact": float(RIGHT[number]), "probability": calibrated})
        rows[-1]["uncalibrated_probability"] = raw
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_risk_and_coverage_are_those_of_the_surest_questions(tmp_path):
    risk_coverage.write_risk_coverage(scores_file(tmp_path / "scores.parquet"), tmp_path / "curve.csv")
    with open(tmp_path / "curve.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for name, temperature in (("calibrated", TEMPERATURE), ("uncalibrated", 1.0)):
        sure = [
            softmax(scores, null, temperature)[0 if text else -1]
            for scores, null, text in zip(SCORES, NULLS, TEXTS, strict=True)
        ]
        found = [row for row in rows if row["probabilities"] == name]
        assert len(found) == len(set(np.round(sure, 12)))
        for row in found:
            answered = [ok for ok, p in zip(RIGHT, sure, strict=True) if p >= float(row["threshold"]) - 1e-6]
            assert float(row["coverage"]) == pytest.approx(len(answered) / 5)
            assert float(row["risk"]) == pytest.approx(1 - np.mean(answered), abs=1e-5)
