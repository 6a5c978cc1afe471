"""The tables that the figures on no answer draw: scores and shares in percent, thresholds in logits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd

from qa.decoding.nbest import read_nbest
from qa.evaluation import question_scores
from qa.evaluation.risk_coverage import PROBABILITIES
from qa.metrics import confidence, squad
from qa.report.drawing import thinned
from qa.report.results import Answers, Results, read_table

BINS = 30
NO_SPAN = 1e5  # a question without any span has a higher null score (see answers.NO_SPAN)
BEST = "best for F1"


@dataclass(frozen=True)
class Group:
    """Sets of answers of one model with the same best texts and null scores: only their thresholds differ.

    `best`: best texts, `golds`: gold answers, `null_scores`: logits, all by question id.
    """

    answers: list[Answers]
    best: Mapping[str, str]
    golds: Mapping[str, Sequence[str]]
    null_scores: dict[str, float]
    results: Results

    @property
    def run(self) -> str:
        """The run's name."""
        return self.answers[0].run

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The metrics of the first decoding. Those that ignore the threshold hold for the whole group."""
        return self.answers[0].metrics()

    @cached_property
    def raw(self) -> tuple[dict[str, int], dict[str, float]]:
        """Exact match (0 or 1) and F1 (0 to 1) of the best text, by question id."""
        return squad.raw_scores(self.golds, self.best, self.metrics.get("f1_by", "words"))

    @cached_property
    def ranked(self) -> list[float]:
        """The null scores of the questions with a span, in rising order."""
        return sorted(score for score in self.null_scores.values() if score < NO_SPAN)

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """The null threshold of each decoding that has one, unless it lies beyond every null score."""
        thresholds = {answers.decoding: self.results.threshold(answers) for answers in self.answers}
        return {name: value for name, value in thresholds.items() if value is not None and abs(value) < NO_SPAN}


def groups(results: Results, split: str, runs: Sequence[str]) -> Iterator[Group]:
    """The sets of answers of each run's first variant on a split, grouped by equal null scores."""
    for run in runs:
        found: list[Group] = []
        for answers in (first for first in results.one_of_each(split) if first.run == run):
            null_scores, nbest = answers.null_scores(), read_nbest(answers.folder / "nbest.parquet")
            same = [group for group in found if (group.null_scores, group.best) == (null_scores, nbest.best)]
            if same:
                same[0].answers.append(answers)
            else:
                found.append(Group([answers], nbest.best, nbest.golds, null_scores, results))
        yield from found


def curve(group: Group, scores: Mapping[str, float]) -> pd.DataFrame:
    """`threshold`, and `score`, the mean of `scores` with it: for 0, 1, ... answered questions of those with a span.

    It follows the official search for the best threshold (metrics.squad.best_threshold), so its maximum is the same.
    """
    order = sorted(group.null_scores, key=group.null_scores.__getitem__)[: len(group.ranked)]
    gains = (scores[key] if group.golds[key] else -bool(group.best[key]) for key in order)
    totals = accumulate(gains, initial=sum(not golds for golds in group.golds.values()))
    places = [group.ranked[0] - 1.0, *group.ranked]  # the first threshold answers no question
    return pd.DataFrame({"threshold": places, "score": [100.0 * total / len(group.golds) for total in totals]})


def histogram(group: Group) -> pd.DataFrame:
    """Questions in equal bins of null score, `low` to `high`. Rows with a `mark` are thresholds."""
    edges = np.linspace(group.ranked[0], max(group.ranked[-1], group.ranked[0] + 1e-9), BINS + 1)
    counts = {}
    for kind, has_answer in (("answerable", True), ("unanswerable", False)):
        kept = [s for key, s in group.null_scores.items() if s < NO_SPAN and bool(group.golds[key]) == has_answer]
        counts[kind] = np.histogram(kept, edges)[0]
    bins = pd.DataFrame({"mark": "", "low": edges[:-1], "high": edges[1:], **counts})
    places = {**group.thresholds, BEST: best(group)["threshold"]}
    marks = pd.DataFrame({"mark": list(places), "low": list(places.values()), "high": list(places.values())})
    return pd.concat([bins, marks], ignore_index=True)


def best(group: Group) -> dict[str, float]:
    """The lowest `threshold` with the highest F1, and that F1 as `score`."""
    points = curve(group, group.raw[1])
    return points.loc[points["score"].idxmax()].to_dict()


def against_threshold(group: Group) -> pd.DataFrame:
    """`series` (F1, EM, or the name of a marked threshold), `threshold` and `score`."""
    parts = []
    for name, scores in (("F1", group.raw[1]), ("EM", group.raw[0])):
        parts.append(thinned(curve(group, scores), "score").assign(series=name))
    decoded = {answers.decoding: answers.metrics()["f1"] for answers in group.answers}
    marks = [{"series": name, "threshold": place, "score": decoded[name]} for name, place in group.thresholds.items()]
    parts.append(pd.DataFrame([*marks, {"series": BEST, **best(group)}]))
    return pd.concat(parts, ignore_index=True)[["series", "threshold", "score"]]


def precision_recall(group: Group) -> pd.DataFrame:
    """`series` (F1, EM), `null_score`, `recall` and `precision`; empty if no question has an answer."""
    curves = squad.precision_recall_curves(group.golds, *group.raw, group.null_scores)
    parts = []
    for name, points in (("F1", curves.get("f1", [])), ("EM", curves.get("exact", []))):
        part = pd.DataFrame(points, columns=["null_score", "precision", "recall"])
        part[["precision", "recall"]] *= 100.0
        parts.append(thinned(part, "precision").assign(series=name))
    return pd.concat(parts, ignore_index=True)[["series", "null_score", "recall", "precision"]]


def risk_coverage(group: Group) -> pd.DataFrame:
    """`series` (see `_series`), `coverage` and `risk`, the share of wrong answers; in percent."""
    parts = []
    for answers in group.answers:
        table = read_table(answers.folder / "risk_coverage.csv")
        for which, label in _series(group.results, answers).items():
            part = table.loc[table["probabilities"] == which, ["coverage", "risk"]] * 100.0
            parts.append(thinned(part, "risk").assign(series=label))
    return pd.concat(parts, ignore_index=True)[["series", "coverage", "risk"]]


def reliability(group: Group) -> pd.DataFrame:
    """Bins of the answer's probability for each series: bounds, `questions`, mean `confidence`, share `right`."""
    parts = []
    for answers in group.answers:
        scores = question_scores.read(answers.folder / "question_scores.parquet", ("exact", *PROBABILITIES.values()))
        for which, label in _series(group.results, answers).items():
            bins = confidence.reliability(scores[PROBABILITIES[which]], scores["exact"])
            columns = {"low": bins.low, "high": bins.high, "confidence": bins.confidence, "right": bins.accuracy}
            part = pd.DataFrame({name: 100.0 * values for name, values in columns.items()})
            parts.append(part.assign(series=label, questions=bins.count))
    return pd.concat(parts, ignore_index=True)[["series", "low", "high", "questions", "confidence", "right"]]


def measure(group: Group, name: str) -> dict[str, float]:
    """A measure of metrics.json (ece, aurc) in percent, for each series of `_series`."""
    measures = {}
    for answers in group.answers:
        metrics = answers.metrics()
        for which, label in _series(group.results, answers).items():
            measures[label] = metrics[name if which == "calibrated" else f"{name}_{which}"]
    return measures


def _series(results: Results, answers: Answers) -> dict[str, str]:
    """Labels of the probabilities of a set of answers: with its temperature and, if that is not 1, without it."""
    calibration = results.calibration(answers)
    if calibration is None or calibration["temperature"] == 1.0:
        return {"calibrated": answers.decoding}
    temperature = f"{answers.decoding}, T = {calibration['temperature']:.2f}"
    return {"calibrated": temperature, "uncalibrated": f"{answers.decoding}, T = 1"}
