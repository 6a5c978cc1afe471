"""Ranking: the runs of each sweep by their F1 on the calibration questions, and what choosing among them costs."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from qa.config import lineage
from qa.metrics import selection, statistics
from qa.report.results import Results


@dataclass(frozen=True)
class Ranking:
    """The points of a sweep, each a run with a calibrated decoding, from the highest F1 to the lowest.

    `rows` have `run`, `decoding`, `values` by setting, and in percent `f1` (a mean over the run's variants), `low` and
    `high` of its interval, and `highest`, the share of resamples in which this point has the highest F1. `optimism`, in
    points, is about the first row's F1 (see selection.select). `questions` calibrate; `unit` was resampled.
    """

    rows: list[dict[str, Any]]
    optimism: float
    questions: int
    unit: str


def rankings(results: Results) -> dict[str, Ranking | None]:
    """The ranking of each sweep; None where its points do not have the same calibration questions, or none at all.

    Questions with other weights (`unanswerable_prior`) are other questions.
    """
    config = results.config
    calibrated = lineage.calibrated(config, lineage.scored(config))
    found: dict[str, Ranking | None] = {}
    for sweep, runs in config.sweeps.items():
        points: dict[tuple[str, str], list[str]] = {}
        for run, variant, decoding in calibrated:
            if run in runs:
                points.setdefault((run, decoding), []).append(variant)
        questions = {
            (*lineage.calibration_of(config, run), config.decodings[decoding].unanswerable_prior)
            for run, decoding in points
        }
        found[sweep] = _ranking(results, points, runs) if len(questions) == 1 else None
    return found


def _ranking(results: Results, points: dict[tuple[str, str], list[str]], runs: dict[str, dict[str, str]]) -> Ranking:
    columns = []
    for (run, decoding), variants in points.items():
        tables = [results.calibration_scores(run, variant, decoding) for variant in variants]
        columns.append(np.mean([table["f1"] for table in tables], axis=0))
    weights, article = tables[0]["weight"].to_numpy(), statistics.clusters(tables[0]["title"])
    chosen = selection.select(np.stack(columns, axis=1), weights, article)
    rows = [
        {"run": run, "decoding": decoding, "values": runs[run], "f1": f1, "low": low, "high": high, "highest": highest}
        for (run, decoding), f1, (low, high), highest in zip(
            points, chosen.scores, chosen.intervals, chosen.highest, strict=True
        )
    ]
    unit = "questions" if article is None else "articles"
    return Ranking(sorted(rows, key=lambda row: -row["f1"]), chosen.optimism, len(weights), unit)
