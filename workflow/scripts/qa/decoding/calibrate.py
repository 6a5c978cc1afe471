"""Calibration: a null threshold and a temperature, found on questions that trained no model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.errors import InputError
from qa.common.files import write_json
from qa.data.read_records import column, titles_and_golds
from qa.decoding import probabilities
from qa.decoding.answers import Candidates, decide
from qa.decoding.postprocess import candidates_of
from qa.metrics import squad

# Thresholds calibrated on draws of SQuAD 2.0 were worse than 0 in 62 % of draws of 82 questions, 42 % of 246, 18 % of
# 600, 7 % of 1,000.
FEW_QUESTIONS = 500

log = logging.getLogger(__name__)


@dataclass
class CalibrationQuestions:
    """What calibration knows of n questions, from their candidates and their gold answers.

    `difference`: float64 (n,), the null score minus the best span's score, inf without a span; `exact`, `f1`: float64
    (n,), from 0 to 1, of the best span as the answer; `unanswerable`: bool (n,), which is also the score of no answer.
    """

    difference: np.ndarray
    exact: np.ndarray
    f1: np.ndarray
    unanswerable: np.ndarray


def calibrate(
    spans_files: Sequence[str],
    questions_files: Sequence[str],
    decoding: dict[str, Any],
    target: str | Path,
    f1_by: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Find a decoding's null threshold and temperature on held-out questions, and write them as JSON.

    `spans_files` holds, for each of `questions_files` in turn, the spans of the variant's model, or of each of an
    ensemble's models; `f1_by` says what the F1 of each of `questions_files` counts (see squad.raw_scores). The JSON
    file has `null_threshold` (logits), `temperature`, facts about the held-out questions (`few_questions`: fewer than
    FEW_QUESTIONS), and the scores on them with this threshold and with threshold 0. Where all questions have an answer,
    the threshold answers every question with a span. Raises InputError where no question has an answer, since such
    questions cannot calibrate a threshold.
    """
    candidates, measured, articles = [], [], 0
    models = len(spans_files) // len(questions_files)
    f1_by = f1_by or ["words"] * len(questions_files)
    for number, file in enumerate(questions_files):
        titles, golds = titles_and_golds(file)
        found = candidates_of(spans_files[number * models : (number + 1) * models], decoding, file)
        candidates.append(found)
        texts = texts_of(found, column(file, "context"))
        measured.append(questions_of(found, list(golds.values()), texts, f1_by[number]))
        articles += len({title for title in titles if title})
    questions = together(measured)
    share, prior = float(questions.unanswerable.mean()), decoding["unanswerable_prior"]
    weights = prior_weights(questions.unanswerable, prior)
    threshold = _threshold(questions, decoding, weights, questions_files)
    temperature = _temperature(candidates, questions, threshold, weights)
    result = {
        "null_threshold": threshold,
        "temperature": temperature.value,
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
    write_json(target, result)
    log.info(
        f"null threshold {threshold:.2f}, temperature {temperature.value:.2f}, from {len(questions.difference):,} "
        f"held-out questions, {share:.0%} of them unanswerable"
    )
    if result["few_questions"]:
        log.warning(few_questions(result["questions"]))
    return result


def few_questions(questions: int) -> str:
    """A warning for a threshold that is calibrated on fewer than FEW_QUESTIONS."""
    return (
        f"only {questions:,} questions calibrate the null threshold; with fewer than {FEW_QUESTIONS} it is often worse "
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
    if questions.unanswerable.any():
        return best_threshold(questions, decoding["calibrate_for"], weights)
    if prior:
        raise InputError(
            f"{where}: none of the held-out questions is unanswerable, so they cannot stand for a share of {prior:g} "
            "(decodings.*.unanswerable_prior); hold out more, set decodings.*.null_threshold to a number, or name "
            "other questions (calibrate_on)"
        )
    log.warning("all held-out questions have an answer, so no answer is never right: every question is answered")
    return float(questions.difference[np.isfinite(questions.difference)].max(initial=0.0) + 1e6)


def texts_of(candidates: Candidates, contexts: Sequence[str]) -> list[str]:
    """The text of each candidate."""
    places = zip(candidates.record.tolist(), candidates.start.tolist(), candidates.stop.tolist(), strict=True)
    return [contexts[record][start:stop] for record, start, stop in places]


def questions_of(
    candidates: Candidates, golds: Sequence[Sequence[str]], texts: Sequence[str], f1_by: str = "words"
) -> CalibrationQuestions:
    """Score each question's best candidate as its answer, "" where it has none. `texts`: those of all candidates."""
    decision = decide(candidates, np.inf)
    best = [texts[first] if first < stop else "" for first, stop in pairwise(decision.bounds.tolist())]
    difference = np.where(decision.answered, decision.difference, np.inf)
    numbered = {str(number): list(gold) for number, gold in enumerate(golds)}
    raw = squad.raw_scores(numbered, dict(zip(numbered, best, strict=True)), f1_by)
    values = [np.array([scores[key] for key in numbered], float) for scores in raw]
    return CalibrationQuestions(difference, *values, np.array([not gold for gold in golds]))


def prior_weights(unanswerable: np.ndarray, prior: float | None) -> np.ndarray:
    """A weight for each question, so that the unanswerable ones have the share `prior` (from 0 to 1) of all weight.

    All weights are 1 without a prior, or without questions of both kinds. After Saerens, Latinne and Decaestecker 2002:
    importance weights for another share of the classes.
    """
    share = unanswerable.mean()
    if prior is None or share in (0.0, 1.0):
        return np.ones(len(unanswerable))
    return np.where(unanswerable, prior / share, (1 - prior) / (1 - share))


def best_threshold(questions: CalibrationQuestions, metric: str, weights: np.ndarray) -> float:
    """The null threshold with the greatest weighted mean of `metric` (exact or f1), half way between two questions.

    Among equals, the least threshold, which answers the fewest questions. Where it is best to answer none, or all, the
    threshold lies beyond every question that has a span; it is 0 where no question has one.
    """
    gain = weights * (getattr(questions, metric) - questions.unanswerable)  # of answering rather than abstaining
    order = np.argsort(questions.difference, kind="stable")
    order = order[questions.difference[order] < np.inf]
    if not len(order):
        return 0.0
    difference = questions.difference[order]
    total = np.concatenate([[0.0], np.cumsum(gain[order])])
    possible = np.concatenate([[True], difference[1:] > difference[:-1], [True]])  # equals are answered together
    answered = int(np.flatnonzero(possible)[np.argmax(total[possible])])
    ends = np.concatenate([[difference[0] - 1.0], difference, [difference[-1] + 1.0]])
    low, high = ends[answered], ends[answered + 1]
    middle = (low + high) / 2
    return float(middle if middle < high else low)  # between neighbouring numbers it may be rounded up


def scores_at(questions: CalibrationQuestions, threshold: float, weights: np.ndarray) -> dict[str, float]:
    """Weighted EM and F1 in percent, and the share answered, with a null threshold."""
    answered = questions.difference <= threshold
    values = {
        "exact": np.where(answered, questions.exact, questions.unanswerable),
        "f1": np.where(answered, questions.f1, questions.unanswerable),
        "answered": answered,
    }
    return {name: float(100.0 * np.average(value, weights=weights)) for name, value in values.items()}


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


def together(parts: list[CalibrationQuestions]) -> CalibrationQuestions:
    """The questions of all parts, one after the other."""
    names = ("difference", "exact", "f1", "unanswerable")
    return CalibrationQuestions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
