"""Scores of one set of answers: the official metrics, ours, and the score of each question."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.files import read_json, write_json
from qa.common.parquet import opened
from qa.data.read_records import misaligned
from qa.decoding.nbest import read_nbest
from qa.decoding.probabilities import certainty
from qa.evaluation import question_scores
from qa.metrics import confidence, squad, statistics


def score(
    answers_file: str | Path,
    null_scores_file: str | Path,
    nbest_file: str | Path,
    metrics_target: str | Path,
    questions_target: str | Path,
    f1_by: str = "words",
    limits: dict[str, int] | None = None,
    trained_on: Sequence[str | Path] = (),
    answered_with: dict[str, Any] | None = None,
    questions: str | Path | None = None,
) -> dict[str, Any]:
    """Write metrics.json and question_scores.parquet of the answers of one decoding; return the metrics.

    metrics.json has the official keys first, in the official order. The best thresholds, which are searched over each
    question's best text, average precisions and measures of confidence are left out if answers have no probabilities,
    as those of another system may. Then come `answered`, the share of questions with an answer, in percent; measures of
    confidence; `intervals` of the means (see statistics.intervals) and of the measures of confidence (see
    confidence.intervals); `interval`, how the intervals were found; `f1_by` (see squad.raw_scores), if F1 counts
    anything but words; `limits` of datasets (see lineage.limits), if there are any; and `trained_contexts`, how many
    questions are about a context that a question of the files `trained_on` is about, if any is. `realigned_answers`,
    `dropped_answers` and `dropped_questions` are of the records file `questions`, where they are not 0 (see
    read_records.misaligned). question_scores.parquet records `answered_with`. Raises InputError for missing or unknown
    ids, and for files of two decodings.
    """
    texts, null_scores, nbest = read_json(answers_file), read_json(null_scores_file), read_nbest(nbest_file)
    exact, f1 = squad.raw_scores(nbest.golds, texts, f1_by)
    ranked = not np.isnan(nbest.null_probability).any()
    metrics: dict[str, Any] = squad.official_metrics(
        nbest.golds,
        texts,
        null_scores=null_scores if ranked else None,
        null_threshold=math.inf,  # the answers are thresholded already
        best_texts=nbest.best,
        average_precision=ranked,
        raw=(exact, f1),
        f1_by=f1_by,
    )
    question_scores.check_answers(texts, nbest.best, nbest_file)
    answers = [texts[key] for key in nbest.best]
    sure = certainty(nbest, np.fromiter(map(bool, answers), bool, len(answers)))
    numbers = {"probability": sure["calibrated"], "uncalibrated_probability": sure["uncalibrated"]}
    for name, scores in (("exact", exact), ("f1", f1)):
        numbers[name] = np.array([scores[key] for key in nbest.best], float)
    metrics["answered"] = 100.0 * sum(map(bool, answers)) / len(answers)
    measures, intervals = _confidence(numbers, statistics.clusters(nbest.titles))
    metrics |= measures
    metrics |= statistics.intervals(statistics.mean_metrics(nbest.golds, exact, f1, texts), nbest.titles)
    metrics["intervals"] |= intervals
    if measures:
        metrics["interval"] |= {"resamples_of_confidence": confidence.RESAMPLES}
    metrics |= squad.mark(f1_by)
    if limits:
        metrics["limits"] = limits
    if trained_contexts := _about_contexts_of(nbest_file, trained_on):
        metrics["trained_contexts"] = trained_contexts
    if questions:
        metrics |= misaligned(questions)
    write_json(metrics_target, metrics)
    question_scores.write(answers, numbers, nbest_file, questions_target, answered_with)
    return metrics


def _about_contexts_of(nbest_file: str | Path, others: Sequence[str | Path]) -> int:
    """How many questions have a context that a question of the other files has, letter by letter."""
    questions = _by_context(nbest_file)
    shared = set[str]().union(*(questions.keys() & _by_context(other) for other in others))
    return sum(questions[context] for context in shared)


def _by_context(path: str | Path) -> Counter[str]:
    """The number of questions about each context of a file."""
    counts: Counter[str] = Counter()
    with opened(path, read_dictionary=["context"]) as file:
        for batch in file.iter_batches(columns=["context"]):
            for count in batch.column("context").value_counts().to_pylist():
                counts[count["values"]] += count["counts"]
    return counts


def _confidence(
    numbers: dict[str, np.ndarray], article: np.ndarray | None
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """How far the answers' probabilities can be believed, in percent, with calibration and without; and the intervals.

    A probability, of the answer or of no answer, is compared with whether that is an exact match. Unknown probabilities
    have no measures.
    """
    measures, intervals = {}, {}
    for suffix, column in (("", "probability"), ("_uncalibrated", "uncalibrated_probability")):
        sure, exact = numbers[column], numbers["exact"]
        if np.isnan(sure).any():
            continue
        values = confidence.measures(sure, exact)
        measures |= {f"{name}{suffix}": 100.0 * value for name, value in values.items()}
        ends = confidence.intervals(sure, exact, article)
        intervals |= {f"{name}{suffix}": [100.0 * end for end in ends[name]] for name in values}
    return measures, intervals
