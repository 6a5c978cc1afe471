"""Risk-coverage curves of a decoding's files, against a computation question by question."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from qa.data.prepare_questions import convert
from qa.evaluation import risk_coverage

SCORES = [[2.0, 0.5], [1.0], [3.0, 1.0, 0.0], [], [0.0]]
NULLS = [0.0, 2.0, 1.0, 0.5, 0.0]
TEXTS = ["mill", "", "weir", "", "mill"]
TEMPERATURE = 2.0


def softmax(scores, null, temperature):
    weights = np.exp(np.array([*scores, null]) / temperature)
    return weights / weights.sum()


def files(folder):
    golds = ["mill", "", "mill", "", "mill"]
    asked = [
        {
            "id": f"q{number}",
            "question": "What?",
            "answers": [{"text": gold, "answer_start": 4}] if gold else [],
            "is_impossible": not gold,
        }
        for number, gold in enumerate(golds)
    ]
    data = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "old mill and weir", "qas": asked}]}]}
    (folder / "q.json").write_text(json.dumps(data))
    convert([folder / "q.json"], folder / "records.parquet")
    (folder / "answers.json").write_text(json.dumps({f"q{number}": text for number, text in enumerate(TEXTS)}))
    kind = pa.list_(pa.struct([("text", pa.string()), ("score", pa.float64()), ("probability", pa.float64())]))
    candidates = [
        [
            {"text": "mill", "score": score, "probability": probability}
            for score, probability in zip(scores, softmax(scores, null, TEMPERATURE), strict=False)
        ]
        for scores, null in zip(SCORES, NULLS, strict=True)
    ]
    table = {
        "id": [f"q{number}" for number in range(5)],
        "null_score": NULLS,
        "null_probability": [
            softmax(scores, null, TEMPERATURE)[-1] for scores, null in zip(SCORES, NULLS, strict=True)
        ],
        "candidates": pa.array(candidates, kind),
    }
    parquet.write_table(pa.table(table), folder / "nbest.parquet")
    return [folder / name for name in ("records.parquet", "answers.json", "nbest.parquet")]


def test_risk_and_coverage_are_those_of_the_surest_questions(tmp_path):
    risk_coverage.write_risk_coverage(*files(tmp_path), tmp_path / "curve.csv")
    with open(tmp_path / "curve.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    right = [True, True, False, True, True]
    for name, temperature in (("calibrated", TEMPERATURE), ("uncalibrated", 1.0)):
        sure = [
            softmax(scores, null, temperature)[0 if text else -1]
            for scores, null, text in zip(SCORES, NULLS, TEXTS, strict=True)
        ]
        found = [row for row in rows if row["probabilities"] == name]
        assert len(found) == len(set(np.round(sure, 12)))
        for row in found:
            answered = [ok for ok, p in zip(right, sure, strict=True) if p >= float(row["threshold"]) - 1e-6]
            assert float(row["coverage"]) == pytest.approx(len(answered) / 5)
            assert float(row["risk"]) == pytest.approx(1 - np.mean(answered), abs=1e-5)
