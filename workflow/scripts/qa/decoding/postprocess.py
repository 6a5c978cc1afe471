"""Decoding: from the best starts and ends of windows to answers in text. NumPy only, no torch."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qa.common.errors import InputError
from qa.common.files import read_json, write_json, written_aside
from qa.common.progress import Progress
from qa.data.read_records import number_of_records
from qa.decoding import nbest
from qa.decoding.answers import Candidates, Decision, decide
from qa.decoding.ensembles import average
from qa.decoding.probabilities import Logistic
from qa.model.spans import Spans

BLOCK = 50_000  # windows whose spans are compared at once
PAIRS = 64_000  # starts by ends whose joint scores are in memory at once: what fits a processor's cache

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """Spans of text found in windows: int arrays `record`, `start`, `stop`, and float64 `score`, of one length."""

    record: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    score: np.ndarray


NOTHING = Found(*(np.zeros(0, kind) for kind in (np.int32, np.int32, np.int32, np.float64)))


def postprocess(
    spans_files: Sequence[str],
    questions_file: str | Path,
    decoding: dict[str, Any],
    outputs: dict[str, str],
    calibration_file: str | Path | None = None,
) -> None:
    """Decode a variant's spans, or those of an ensemble's models, by one decoding of the configuration.

    Writes `answers` {id: text} and `no_answer_probabilities` {id: probability}, both in the official script's formats,
    `null_scores` {id: null score minus the best span's score}, which are in the order of the probabilities, and
    `nbest`, a row a question (see qa.decoding.nbest). A calibrated decoding takes its threshold, temperature and
    logistic curve from `calibration_file`. For the errors raised see `candidates_of`.
    """
    candidates = candidates_of(spans_files, decoding, questions_file)
    threshold, temperature = decoding.get("null_threshold", np.inf), None  # the walkthrough has no null rule
    logistic = Logistic()
    if calibration_file is not None:
        calibration = read_json(calibration_file)
        threshold, temperature = calibration["null_threshold"], calibration["temperature"]
        logistic = Logistic(**calibration["no_answer_probability"])
    decision = decide(candidates, threshold, temperature)
    answers = write_answers(candidates, decision, logistic(decision.difference), questions_file, outputs)
    log.info(f"{sum(map(bool, answers.values())):,} of {len(answers):,} questions answered")


def write_answers(
    candidates: Candidates,
    decision: Decision,
    no_answer: np.ndarray,
    questions_file: str | Path,
    outputs: dict[str, str],
    given: Sequence[str] | None = None,
) -> dict[str, str]:
    """Write the files of `postprocess` for a file of questions; return the answers by id.

    `no_answer`: float64 (n,), each question's probability of no answer. The text of a candidate is cut out of
    the context, unless the texts of all candidates are `given`.
    """
    answers: dict[str, str] = {}
    first, progress = 0, Progress("answer", len(candidates.null_score), "questions")
    with (
        written_aside(outputs["nbest"]) as partial,
        nbest.writer(partial) as file,
        ThreadPoolExecutor(1) as thread,  # Arrow writes while the next questions' texts are cut
    ):
        writing = None
        for questions in nbest.batches_of_questions(questions_file):
            part = slice(first, first + len(questions))
            texts, bounds = nbest.texts_of(candidates, decision, part, questions.column("context"), given)
            if writing:
                writing.result()
            table = nbest.table(candidates, decision, part, questions, texts)
            writing = thread.submit(file.write_table, table)
            places = zip(bounds, decision.answered[part].tolist(), strict=True)
            best = (texts[place] if answered else "" for place, answered in places)
            answers.update(zip(questions.column("id").to_pylist(), best, strict=True))
            first = part.stop
            progress.reach(first)
        if writing:
            writing.result()
    write_json(outputs["answers"], answers, flat=True)
    for name, numbers in (("null_scores", decision.difference), ("no_answer_probabilities", no_answer)):
        write_json(outputs[name], dict(zip(answers, numbers.tolist(), strict=True)), flat=True)
    return answers


def candidates_of(
    spans_files: Sequence[str], decoding: dict[str, Any], questions_file: str | Path | None = None
) -> Candidates:
    """Decode the spans of a model, or of each of an ensemble's models, whose candidates are averaged.

    Raises InputError where the files hold different numbers of questions, and for scores that are not finite.
    """
    questions = None if questions_file is None else number_of_records(questions_file)
    found = []
    for file in spans_files:
        spans = Spans.read(file)
        questions = spans.questions if questions is None else questions
        _check(spans, file, questions, questions_file or spans_files[0])
        longest = decoding.get("max_answer_length", np.inf)
        if too_long := len(np.unique(spans.record[spans.label_tokens > longest])):
            log.warning(
                f"{too_long:,} questions have a gold answer of more than {longest} tokens (max_answer_length): no "
                "answer can equal it"
            )
        found.append(decoded(spans, decoding))
    return found[0] if len(found) == 1 else average(found, decoding["n_best_size"])


def _check(spans: Spans, file: str | Path, questions: int, questions_file: str | Path) -> None:
    if spans.questions != questions:
        raise InputError(
            f"{file}: spans of {spans.questions:,} questions, but {questions_file} has {questions:,}; remove {file} "
            "and run again"
        )
    logits = (spans.null_score, spans.row_start_logit, spans.row_end_logit)
    if not all(np.isfinite(values).all() for values in logits):
        raise InputError(
            f"{file}: scores that are not finite: did the training diverge (see its training.csv), or is the precision "
            "of prediction too low?"
        )


def decoded(spans: Spans, decoding: dict[str, Any]) -> Candidates:
    """Apply a decoding of the configuration to the spans of a model."""
    if decoding["method"] == "walkthrough":
        return walkthrough(spans)
    return n_best(spans, decoding["n_best_size"], decoding["max_answer_length"])


def walkthrough(spans: Spans) -> Candidates:
    """The published walkthrough's decoding: argmax of starts and of ends over the whole row, kept if end > start.

    It reads the first window of each question only, since there a context is cut to one row. Like there, a question's
    token counts as if its offsets were the context's, and the offsets of special tokens and padding are 0.
    """
    first = np.diff(spans.record, prepend=-1) != 0
    chosen = np.flatnonzero(first & (spans.row_end_index > spans.row_start_index))
    score = spans.row_start_logit[chosen].astype(np.float64) + spans.row_end_logit[chosen]
    start, stop = spans.row_start_character[chosen], spans.row_end_character[chosen]
    null_score = spans.null_score[first].astype(np.float64)
    return Candidates(spans.record[chosen], start, stop, score, null_score, windows_of_questions(spans))


def n_best(spans: Spans, size: int, max_answer_length: int) -> Candidates:
    """The best joint spans of each question, after run_squad.py of BERT (Devlin et al. 2019), vectorised.

        for question in questions:
            best = {}
            for window in question.windows:
                pairs = [
                    (start, end)
                    for start in window.starts for end in window.ends          # best first
                    if start <= end < start + max_answer_length                # tokens
                    and first_character(start) < last_character(end)
                ]
                for start, end in sorted(pairs, key=score, reverse=True)[:size]:
                    span = first_character(start), last_character(end)
                    best[span] = max(score(start, end), best.get(span, -inf))
            candidates = sorted(best, key=lambda span: (-best[span], span))[:size]

    A score is start logit plus end logit. So a span that several windows show counts once, with its best score.
    """
    step = max(1, PAIRS // spans.candidates**2)  # windows
    found = [NOTHING]
    progress = Progress("decode", len(spans), "windows")
    for begin, end in _blocks_of_questions(spans.record):
        parts = []
        for first in range(begin, end, step):
            part = slice(first, min(first + step, end))
            parts.append(_best_of_windows(spans, part, size, max_answer_length))
            progress.reach(part.stop)
        found.append(_best_of_questions(Found(*_joined(parts)), size))
    return Candidates(*_joined(found), null_scores(spans), windows_of_questions(spans))


def null_scores(spans: Spans) -> np.ndarray:
    """Null score of each question, the least over its windows, as in run_squad.py: float64 (questions,)."""
    scores = np.full(spans.questions, np.inf)
    np.minimum.at(scores, spans.record, spans.null_score.astype(np.float64))
    return scores


def windows_of_questions(spans: Spans) -> np.ndarray:
    """How many windows each question has: int (questions,)."""
    return np.bincount(spans.record, minlength=spans.questions)


def _best_of_windows(spans: Spans, part: slice, size: int, max_answer_length: int) -> Found:
    """The best `size` spans of each window of a part: the inner loop of `n_best`."""
    start, end = spans.start_index[part], spans.end_index[part]
    first, last = spans.start_character[part], spans.end_character[part]
    tokens = end[:, None, :] - start[:, :, None]
    # spans without characters leave before the best are chosen, or they would crowd out real ones
    allowed = (tokens >= 0) & (tokens < max_answer_length) & (last[:, None, :] > first[:, :, None])
    allowed &= (start >= 0)[:, :, None]
    window, i, j = _greatest_pairs(spans.start_logit[part], spans.end_logit[part], allowed, size)
    score = spans.start_logit[part][window, i].astype(np.float64) + spans.end_logit[part][window, j]
    columns = (spans.record[part][window], first[window, i], last[window, j])
    return Found(*(values.astype(np.int64) for values in columns), score)


def _best_of_questions(found: Found, size: int) -> Found:
    """The `size` best distinct spans of each question, best first: the outer loop of `n_best`.

    for question in questions:
        best = {}
        for span, score in found[question]:
            best[span] = max(score, best.get(span, -inf))
        keep = sorted(best, key=lambda span: (-best[span], span))[:size]
    """
    if not len(found.record):
        return found
    # 1. One number for each span, which orders by question, start and stop. It sorts ten times as fast as a lexsort.
    length = found.stop - found.start
    span = (found.record * (found.start.max() + 1) + found.start) * (length.max() + 1) + length
    order = np.argsort(span, kind="stable")
    # 2. Equal spans stand together now: of each keep one, with its greatest score.
    first = np.flatnonzero(np.diff(span[order], prepend=-1))
    score = np.maximum.reduceat(found.score[order], first)
    order = order[first]
    record = found.record[order]
    # 3. Order by question and falling score, again by one number; equal scores stay in the order of start and stop.
    _, rank = np.unique(-score, return_inverse=True)
    best = np.argsort(record * (len(score) + 1) + rank, kind="stable")
    # 4. Of each question keep the first `size`.
    best = best[np.arange(len(best)) - np.searchsorted(record, record) < size]
    order = order[best]
    # int32 from here on: these are kept for all questions at once
    places = (values.astype(np.int32) for values in (record[best], found.start[order], found.stop[order]))
    return Found(*places, score[best])


def _blocks_of_questions(record: np.ndarray) -> Iterator[tuple[int, int]]:
    """Bounds of blocks of about BLOCK windows, with all windows of their questions: what is in memory at once."""
    begin = 0
    while begin < len(record):
        end = int(np.searchsorted(record, record[min(begin + BLOCK, len(record)) - 1], "right"))
        yield begin, end
        begin = end


def _joined(parts: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """The columns of all parts, one after the other.

    Empties the list column by column, since both forms of all would be large.
    """
    columns = [list(column) for column in zip(*parts, strict=True)]
    parts.clear()
    return [np.concatenate(columns.pop(0)) for _ in range(len(columns))]


def _greatest_pairs(
    start: np.ndarray, end: np.ndarray, allowed: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window, start and end of the `size` greatest finite sums of each window, the first pairs among equals.

        for window in windows:
            pairs = [(i, j) for i in range(k) for j in range(k) if allowed[window, i, j]]
            chosen = sorted(pairs, key=lambda pair: -(start[window, i] + end[window, j]))[:size]

    `start`, `end`: float32 (W, k); `allowed`: bool (W, k, k), which pairs count. Within a window, pairs come in the
    order of i and j, not of their sums.
    """
    windows, k = start.shape
    # 1. Sums in float32, which is fast, but sums that differ a little may come out equal.
    rough = start[:, :, None] + end[:, None, :]
    rough = np.where(allowed & np.isfinite(rough), rough, -np.inf).reshape(windows, -1)
    chosen = rough > -np.inf
    if size < k * k:
        # 2. In each window, all pairs that are as great as the pair of rank `size`, within the rounding.
        least = np.partition(rough, -size, axis=1)[:, [-size]]
        chosen &= rough >= np.nextafter(least, np.float32(-np.inf))
        # 3. Where those are too many, exact sums decide.
        crowded = np.flatnonzero(chosen.sum(axis=1) > size)
        exact = start[crowded, :, None].astype(np.float64) + end[crowded, None, :]
        exact = np.where(chosen[crowded], exact.reshape(-1, k * k), -np.inf)
        order = np.argsort(-exact, axis=1, kind="stable")[:, :size]
        chosen[crowded] = False
        chosen[crowded[:, None], order] = True
    window, pair = np.divmod(np.flatnonzero(chosen), k * k)
    return window, *np.divmod(pair, k)
