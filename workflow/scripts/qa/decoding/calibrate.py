"""Calibration: a null threshold and a temperature, found on questions that trained no model."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from qa.common.errors import InputError
from qa.common.files import write_json, written_aside
from qa.data.read_records import column, titles_and_golds
from qa.decoding import probabilities
from qa.decoding.answers import Candidates
from qa.decoding.null_threshold import (
    CalibrationQuestions,
    fit_threshold,
    fit_thresholds,
    prior_weights,
    questions_of,
    scores_at,
    together,
)
from qa.decoding.postprocess import candidates_of
from qa.metrics import statistics

# With fewer, the threshold was worse than 0 in 18 to 34 % of draws of SQuAD 2.0 (benchmarks/README.md).
FEW_QUESTIONS = 500
RESAMPLES = 1_000

log = logging.getLogger(__name__)


def calibrate(
    spans_files: Sequence[str],
    questions_files: Sequence[str],
    decoding: dict[str, Any],
    target: str | Path,
    f1_by: Sequence[str] | None = None,
    scores_file: str | Path | None = None,
) -> dict[str, Any]:
    """Find a decoding's null threshold and temperature on held-out questions, and write them as JSON.

    `spans_files` holds, for each of `questions_files` in turn, the spans of the variant's model, or of each of an
    ensemble's models; `f1_by` says what the F1 of each of `questions_files` counts (see squad.raw_scores). The JSON
    file has `null_threshold` (logits), `temperature`, `no_answer_probability` (see probabilities.Logistic), the
    threshold's bootstrap interval (`intervals`, and `interval` for how it was computed, both empty if every question
    has an answer), facts about the held-out questions (`few_questions`: fewer than FEW_QUESTIONS), and the scores on
    them with this threshold and with threshold 0. Where all questions have an answer, the threshold answers every
    question with a span. `scores_file` gets a row for each held-out question: `id`, `title`, `exact` and `f1` (0 to 1,
    with this threshold), and its `weight` in the scores of the JSON file. Raises InputError where no question has an
    answer, since such questions cannot calibrate a threshold.
    """
    f1_by = f1_by or ["words"] * len(questions_files)
    candidates, questions, ids, titles, articles = _held_out(spans_files, questions_files, decoding, f1_by)
    share, prior = float(questions.unanswerable.mean()), decoding["unanswerable_prior"]
    weights = prior_weights(questions.unanswerable, prior)
    threshold = _threshold(questions, decoding, weights, questions_files)
    intervals, interval = _interval(questions, decoding["calibrate_for"], weights, statistics.clusters(titles))
    temperature = _temperature(candidates, questions, threshold, weights)
    logistic = probabilities.fit_logistic(questions.difference, questions.unanswerable, weights)
    result = {
        "null_threshold": threshold,
        "temperature": temperature.value,
        "no_answer_probability": asdict(logistic),
        "intervals": intervals,
        "interval": interval,
        "calibrated_for": decoding["calibrate_for"],
        "questions": len(questions.difference),
        "few_questions": len(questions.difference) < FEW_QUESTIONS,
        "articles": articles,
        "unanswerable": 100.0 * share,
        "unanswerable_prior": None if prior is None else 100.0 * prior,
        **scores_at(questions, threshold, weights),
        "at_threshold_0": scores_at(questions, 0.0, weights),
        "temperature_fit": {"log_loss_before": temperature.before, "log_loss_after": temperature.after},
    }
    if scores_file:
        columns = {"id": ids, "title": titles, "weight": weights}
        _write_scores(questions, threshold, columns, scores_file)
    write_json(target, result)
    log.info(
        f"null threshold {threshold:.2f}, temperature {temperature.value:.2f}, from {len(questions.difference):,} "
        f"held-out questions, {share:.0%} of them unanswerable"
    )
    if result["few_questions"]:
        log.warning(few_questions(result["questions"]))
    return result


def _held_out(
    spans_files: Sequence[str], questions_files: Sequence[str], decoding: dict[str, Any], f1_by: Sequence[str]
) -> tuple[list[Candidates], CalibrationQuestions, list[str], list[str], int]:
    """Candidates of each file; of all files together the questions, their ids, their titles, the number of articles."""
    candidates, measured, titles, ids, articles = [], [], [], [], 0
    models = len(spans_files) // len(questions_files)
    for number, file in enumerate(questions_files):
        names, golds = titles_and_golds(file)
        found = candidates_of(spans_files[number * models : (number + 1) * models], decoding, file)
        candidates.append(found)
        measured.append(questions_of(found, list(golds.values()), column(file, "context"), f1_by[number]))
        titles += names
        ids += golds
        articles += len({title for title in names if title})
    return candidates, together(measured), ids, titles, articles


def _write_scores(
    questions: CalibrationQuestions, threshold: float, columns: dict[str, Any], target: str | Path
) -> None:
    """Write the scores of each question with a threshold, beside `columns`."""
    answered = questions.difference <= threshold
    scores = {name: np.where(answered, getattr(questions, name), questions.unanswerable) for name in ("exact", "f1")}
    with written_aside(target) as partial:
        parquet.write_table(pa.table(columns | scores), partial, compression="zstd")


def few_questions(questions: int) -> str:
    """A warning for a threshold that is calibrated on fewer than FEW_QUESTIONS."""
    return (
        f"only {questions:,} questions calibrate the null threshold; with fewer than {FEW_QUESTIONS} it may be worse "
        "than 0: raise hold_out, name calibrate_on, or compare a decoding with null_threshold 0"
    )


def _threshold(
    questions: CalibrationQuestions, decoding: dict[str, Any], weights: np.ndarray, questions_files: Sequence[str]
) -> float:
    """The null threshold of a decoding; raises InputError where the questions cannot tell it."""
    where, prior = ", ".join(map(str, questions_files)), decoding["unanswerable_prior"]
    if questions.unanswerable.all():
        raise InputError(
            f"{where}: all held-out questions are unanswerable, so they cannot calibrate a null threshold; set "
            "decodings.*.null_threshold to a number, raise hold_out (this trains again), or name other questions "
            "(calibrate_on)"
        )
    if prior and not questions.unanswerable.any():
        raise InputError(
            f"{where}: none of the held-out questions is unanswerable, so they cannot stand for a share of {prior:g} "
            "(decodings.*.unanswerable_prior); hold out more, set decodings.*.null_threshold to a number, or name "
            "other questions (calibrate_on)"
        )
    if not questions.unanswerable.any():
        log.warning("all held-out questions have an answer, so no answer is never right: every question is answered")
    return fit_threshold(questions, decoding["calibrate_for"], weights)


def _interval(
    questions: CalibrationQuestions, metric: str, weights: np.ndarray, article: np.ndarray | None
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """The keys `intervals` and `interval` of the file: the threshold with other questions, as statistics.bootstrap."""
    if not questions.unanswerable.any():
        return {}, {}
    size = len(weights)
    draws = statistics.question_draws(size, article, RESAMPLES)
    drawn = np.concatenate([fit_thresholds(questions, metric, weights, times) for times in draws])
    ends = statistics.percentiles(size if article is None else len(np.unique(article)))
    resampled = "questions" if article is None else "articles"
    method = {"level": statistics.LEVEL, "resamples": RESAMPLES, "resampled": resampled, "seed": statistics.SEED}
    return {"null_threshold": np.percentile(drawn, ends).tolist()}, method


def _temperature(
    parts: Sequence[Candidates], questions: CalibrationQuestions, threshold: float, weights: np.ndarray
) -> probabilities.Temperature:
    """Fit to the answers of all parts with a threshold, right where they are exact matches; see answers.decide."""
    scores, nulls = (np.concatenate([getattr(part, name) for part in parts]) for name in ("score", "null_score"))
    sizes = [np.bincount(part.record, minlength=len(part.null_score)) for part in parts]
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    answered = questions.difference <= threshold
    correct = np.where(answered, questions.exact, questions.unanswerable)
    return probabilities.fit_temperature(scores, bounds, nulls - threshold, answered, correct, weights)
