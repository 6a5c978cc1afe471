"""Answers of another system: from the user's file to the files that decoding writes."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np

from qa.common import checksums
from qa.common.errors import check_ids, some
from qa.data.read_answers import GivenAnswer, read_answers
from qa.decoding import nbest
from qa.decoding.answers import NO_SPAN, Candidates, Decision
from qa.decoding.postprocess import write_answers
from qa.decoding.probabilities import LEAST_CHANCE

OFTEN = 0.01  # share of the questions with one answer that stands in no context: it may be a way to say "no answer"
UNKNOWN = -1  # windows of a question, and the place of an answer that does not stand in the context

log = logging.getLogger(__name__)


def take(answers_file: str | Path, questions_file: str | Path, outputs: dict[str, str]) -> None:
    """Write the files of postprocess.postprocess for answers that a file gives.

    An answer is its question's only candidate, at the `start` that the file names or the first place of its text. The
    text need not stand in the context. There are no scores (NaN), and probabilities only if the file has one for each
    question. Then a null score is the log odds of no answer against the answer; without probabilities it only says
    whether there is an answer (0, or 1e6 for none), as probabilities of no answer do (0, or 1). A missing
    `null_probability` is 1 less that of the answer. Ids that are no questions are left out with a warning. Raises
    InputError for a file that cannot be read, and for questions without an answer.
    """
    given = read_answers(answers_file)
    ids, starts, stops = [], [], []
    for batch in nbest.batches_of_questions(questions_file):
        contexts = batch.column("context")
        distinct, places = contexts.dictionary.to_pylist(), contexts.indices.to_pylist()
        for identity, place in zip(batch.column("id").to_pylist(), places, strict=True):
            ids.append(identity)
            if (answer := given.get(identity)) and answer.text:
                starts.append(_place(answer, distinct[place]))
                stops.append(starts[-1] + len(answer.text) if starts[-1] != UNKNOWN else UNKNOWN)
    questions = dict.fromkeys(ids)
    if foreign := [identity for identity in given if identity not in questions]:
        log.warning(f"{answers_file}: {len(foreign):,} ids are no questions of {questions_file} ({some(foreign)})")
    check_ids(questions, [identity for identity in given if identity in questions], str(answers_file))
    answers = [given[identity] for identity in ids]
    texts = [answer.text for answer in answers if answer.text]
    answered = np.array([bool(answer.text) for answer in answers])
    probability, null_probability, difference = _confidence(answers, answered, answers_file)
    unknown = np.full(len(ids), np.nan)
    candidates = Candidates(
        record=np.flatnonzero(answered),
        start=np.array(starts, np.int64),
        stop=np.array(stops, np.int64),
        score=unknown[: len(texts)],
        null_score=unknown,
        windows=np.full(len(ids), UNKNOWN),
    )
    bounds = np.concatenate([[0], np.cumsum(answered)])
    decision = Decision(bounds, difference, answered, probability[answered], null_probability)
    no_answer = np.where(np.isnan(null_probability), ~answered, null_probability)
    write_answers(candidates, decision, no_answer, questions_file, outputs, texts)
    checksums.record_sources(outputs["answers"], [answers_file])  # for `qa table`
    free = Counter(text for text, start in zip(texts, starts, strict=True) if start == UNKNOWN)
    nowhere = free.total()
    log.info(
        f"{len(texts):,} of {len(ids):,} questions answered, {nowhere:,} with a text that the context does not have"
    )
    for text, times in free.most_common(1):
        if times > max(1, OFTEN * len(ids)):
            log.warning(
                f"{answers_file}: {text[:40]!r} answers {times:,} questions whose contexts do not have it; it counts "
                'as a wrong answer: if it means no answer, write "" instead'
            )


def _place(answer: GivenAnswer, context: str) -> int:
    """Where an answer begins in its context, in characters."""
    if answer.start is not None and answer.start >= 0 and context.startswith(answer.text, answer.start):
        return answer.start
    return context.find(answer.text)


def _confidence(
    answers: list[GivenAnswer], answered: np.ndarray, answers_file: str | Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The probability of each answer, that of no answer, and the null score less the answer's: float64 (n,) each."""
    silent = -NO_SPAN  # no answer is known that could be better than none
    known = [answer.probability for answer in answers if answer.probability is not None]
    if len(known) < len(answers):
        if known or any(answer.null_probability is not None for answer in answers):
            log.warning(f"{answers_file}: {len(answers) - len(known):,} answers have no `probability`; none is used")
        unknown = np.full(len(answers), np.nan)
        return unknown, unknown, np.where(answered, 0.0, silent)
    probability = np.array(known)
    null = [
        answer.null_probability if answer.null_probability is not None else 1 - answer.probability for answer in answers
    ]
    null_probability = np.where(answered, null, probability)
    odds = np.log(null_probability.clip(LEAST_CHANCE)) - np.log(probability.clip(LEAST_CHANCE))
    return probability, null_probability, np.where(answered, odds, silent)
