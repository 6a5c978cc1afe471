"""Calibration: when to stay silent, and how sure to sound, found on questions that trained no model."""

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

log = logging.getLogger(__name__)


@dataclass
class Questions:
    """What calibration knows of n questions, from the candidates for them and their gold answers.

    `difference`: float64 (n,), null score minus best span's score, inf without a span; `exact`, `f1`: float64 (n,),
    from 0 to 1, of the best span as the answer; `unanswerable`: bool (n,). The last is also what silence scores.
    """

    difference: np.ndarray
    exact: np.ndarray
    f1: np.ndarray
    unanswerable: np.ndarray


def calibrate(
    spans_files: Sequence[Sequence[str]],
    windows_folders: Sequence[Sequence[str]],
    records_files: Sequence[str],
    decoding: dict[str, Any],
    target: str | Path,
) -> dict[str, Any]:
    """Find the null threshold and the temperature of a decoding on held-out questions, and write them as JSON.

    For each of `records_files` there are the spans and the windows of a variant, or of all variants of an ensemble. The
    file holds `null_threshold` (logits), `temperature`, what they were found on, and the scores there with this
    threshold and with 0. Where all questions have an answer, every one with a span is answered. Raises InputError
    where none has one, as no threshold can be learnt from those.
    """

    parts, titles = [], 0
    for spans, windows, records in zip(spans_files, windows_folders, records_files, strict=True):
        names, golds = titles_and_golds(records)
        contexts = column(records, "context")
        found = candidates_of(spans, windows, len(golds), decoding)
        texts = texts_of(found, contexts)
        parts.append((found, list(golds.values()), texts))
        titles += len({name for name in names if name})
    questions = together([questions_of(*part) for part in parts])
    share = float(questions.unanswerable.mean())
    prior = decoding["unanswerable_prior"]
    weights = prior_weights(questions.unanswerable, prior)
    threshold = _threshold(questions, decoding, weights, records_files)
    fitted = _temperature([found for found, _, _ in parts], questions, threshold, weights)
    result = {
        "null_threshold": threshold,
        "temperature": fitted.value,
        "calibrated_for": decoding["calibrate_for"],
        "questions": len(questions.difference),
        "articles": titles,
        "unanswerable": 100.0 * share,
        "unanswerable_prior": None if prior is None else 100.0 * prior,
        **scores_at(questions, threshold, weights),
        "at_threshold_0": scores_at(questions, 0.0, weights),
        "temperature_fit": {
            "log_loss_before": fitted.before,
            "log_loss_after": fitted.after,
        },
    }
    write_json(target, result)
    log.info(
        f"null threshold {threshold:.2f}, temperature {fitted.value:.2f}, from {len(questions.difference):,} held-out "
        f"questions, {share:.0%} of them unanswerable"
    )
    return result


def _threshold(
    questions: Questions, decoding: dict[str, Any], weights: np.ndarray, records_files: Sequence[str]
) -> float:
    """The null threshold of a decoding; InputError where the questions cannot tell it."""
    where, prior = ", ".join(map(str, records_files)), decoding["unanswerable_prior"]
    if questions.unanswerable.all():
        raise InputError(
            f"{where}: held-out questions that are all unanswerable calibrate no null threshold; set "
            "decodings.*.null_threshold to a number, or name other questions (calibrate_on)"
        )
    if questions.unanswerable.any():
        return best_threshold(questions, decoding["calibrate_for"], weights)
    if prior:
        raise InputError(
            f"{where}: none of the held-out questions is unanswerable, so they cannot stand for a share of {prior:g} "
            "(decodings.*.unanswerable_prior); hold out more, set decodings.*.null_threshold to a number, or name "
            "other questions (calibrate_on)"
        )
    log.warning("all held-out questions have an answer, so silence is never right: every question is answered")
    return float(questions.difference[np.isfinite(questions.difference)].max(initial=0.0) + 1e6)


def texts_of(candidates: Candidates, contexts: Sequence[str]) -> list[str]:
    """The text of each candidate."""
    places = zip(candidates.record.tolist(), candidates.start.tolist(), candidates.stop.tolist(), strict=True)
    return [contexts[record][start:stop] for record, start, stop in places]


def questions_of(candidates: Candidates, golds: Sequence[Sequence[str]], texts: Sequence[str]) -> Questions:
    """What each question's best candidate is worth; "" where it has none. `texts` are the candidates'."""
    decision = decide(candidates, np.inf)
    best = [texts[first] if first < stop else "" for first, stop in pairwise(decision.bounds.tolist())]
    difference = np.where(decision.answered, decision.difference, np.inf)
    numbered = {str(number): list(gold) for number, gold in enumerate(golds)}
    exact, overlap = squad.raw_scores(numbered, dict(zip(numbered, best, strict=True)))
    values = [np.array([scores[key] for key in numbered], float) for scores in (exact, overlap)]
    return Questions(difference, *values, np.array([not gold for gold in golds]))


def prior_weights(unanswerable: np.ndarray, prior: float | None) -> np.ndarray:
    """A weight for each question, so that unanswerable ones weigh `prior` (from 0 to 1) in all.

    1 without a prior, or without questions of both kinds.
    After Saerens, Latinne and Decaestecker 2002: importance weights for another share of the classes.
    """
    share = unanswerable.mean()
    if prior is None or share in (0.0, 1.0):
        return np.ones(len(unanswerable))
    return np.where(unanswerable, prior / share, (1 - prior) / (1 - share))


def best_threshold(questions: Questions, metric: str, weights: np.ndarray) -> float:
    """The null threshold with the greatest weighted mean of `metric` (exact or f1), half way between two questions.

    The least of equals, so the most silent. Where answering none, or all, is best, it lies beyond every question that
    has a span; 0 where none has one.
    """
    gain = weights * (getattr(questions, metric) - questions.unanswerable)  # of answering instead of staying silent
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


def scores_at(questions: Questions, threshold: float, weights: np.ndarray) -> dict[str, float]:
    """Weighted EM and F1 in percent, and the share answered, with a null threshold."""
    answered = questions.difference <= threshold
    values = {
        "exact": np.where(answered, questions.exact, questions.unanswerable),
        "f1": np.where(answered, questions.f1, questions.unanswerable),
        "answered": answered,
    }
    return {name: float(100.0 * np.average(value, weights=weights)) for name, value in values.items()}


def _temperature(
    parts: Sequence[Candidates], questions: Questions, threshold: float, weights: np.ndarray
) -> probabilities.Temperature:
    """Fitted to what all parts answer with a threshold, right where that is an exact match; see answers.decide."""
    scores, nulls = (np.concatenate([getattr(part, name) for part in parts]) for name in ("score", "null_score"))
    sizes = [np.bincount(part.record, minlength=len(part.null_score)) for part in parts]
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    answered = questions.difference <= threshold
    correct = np.where(answered, questions.exact, questions.unanswerable)
    return probabilities.fit_temperature(scores, bounds, nulls - threshold, answered, correct, weights)


def together(parts: list[Questions]) -> Questions:
    """The questions of all parts, one after the other."""
    names = ("difference", "exact", "f1", "unanswerable")
    return Questions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
