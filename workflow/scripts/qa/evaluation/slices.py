"""Slices: exact match and F1 of kinds of questions, each with its interval."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.files import write_csv
from qa.common.progress import Progress
from qa.decoding.nbest import golds_of
from qa.evaluation import question_scores
from qa.metrics.statistics import Ratios, bootstrap, clusters

COLUMNS = ("kind", "slice", "count", "exact", "exact_low", "exact_high", "f1", "f1_low", "f1_high", "resampled")
LEAST_QUESTIONS = 20  # a bootstrap interval of fewer is too narrow, so they get none

QUESTION_WORDS = ("what", "who", "when", "where", "which", "why", "how", "how many/much", "other")
ANSWER_TYPES = ("number", "date", "name", "phrase")
QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
# the last value of each bin, except the open bin
ANSWER_WORDS = (1, 2, 3, 5, 10)
CONTEXT_WORDS = (100, 150, 200, 300, 500)
WINDOWS = (1, 2, 3)
NO_TITLE = "(no title)"

_QUESTION_WORD = re.compile(r"\b(how\s+(?:many|much)|who(?:m|se)?|what|when|where|which|why|how)\b", re.I)
_BREAK = re.compile(r"[\s\u2010-\u2015-]+")  # white space, hyphens and dashes
_EDGES = re.compile(r"^[^\w\u2212+~<>≈±$€£¥₹]+|\W+$")  # punctuation; signs and currencies before a number stay
_DATE = re.compile(
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|century|centuries|bce?|ad|ce"
    r"|(?:1\d{3}|20\d{2})(?:s|/\d{2,4})?|\d0s|\d{1,4}[/.]\d{1,2}[/.]\d{1,4}"
)
_BESIDE_DATE = re.compile(
    r"\d{1,3}(?:st|nd|rd|th)?|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
    r"|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|twenty"
    r"|the|of|in|on|at|by|from|to|through|until|till|and|or|between|before|after|since|during|about|around|circa|ca?|early"
    r"|mid|middle|late|later|end|beginning|start|half|spring|summer|autumn|fall|winter"
)
_BESIDE_NUMBER = re.compile(
    r"an?|about|almost|approximately|around|at|between|exactly|just|least|less|more|most|nearly|only|over|roughly|some"
    r"|than|the|to|under|up"
)
_NUMBER = re.compile(
    r"[\u2212+~<>≈±]?(?:[a-z]{0,3}[$€£¥₹])?\d(?!\d*(?:st|nd|rd|th)$).*"
    r"|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|(?:hundred|thousand|million|billion|trillion|dozen)s?|half"
)
_BESIDE_NAME = re.compile(r"an?|al|and|at|bin|d[aeiu]|de[lnrs]|el?|et|for|ibn|in|la|le|of|on|the|to|v[ao]n|y")

log = logging.getLogger(__name__)


@dataclass
class Slicing:
    """One way to divide questions: the `names` of its slices, and the slice of each question.

    `place`: int (questions,), -1 for a question in none of them.
    """

    kind: str
    names: Sequence[str]
    place: np.ndarray


def question_word(question: str) -> str:
    """The first question word of a question: who (whom, whose), what, when, where, which, why or how, else `other`.

    It may stand anywhere. "How many" and "how much" are a kind of their own.
    """
    found = _QUESTION_WORD.search(question)
    if not found:
        return "other"
    word, *rest = found[0].lower().split()
    if rest:
        return "how many/much"
    return "who" if word.startswith("who") else word


def answer_type(text: str) -> str:
    """Whether an answer is a `date`, a `number` or a `name`, by the first rule that holds, else a `phrase`.

    Words are cut at white space and dashes, and stripped of punctuation.

    date: the answer has a month, a weekday, a year (1000 to 2099, also 1998/99), a decade, a century, an era (BC, AD)
    or a date in digits. All other words are numbers of up to three digits, ordinals, or words such as of, early, until.
    number: the first word, after words such as about or more than, is a number in words, or begins with a digit (after
    a sign or a currency) and is no ordinal.
    name: every word begins with a capital or a digit, and at least one with a capital. Small words of names (of, the,
    de, van) may stand between. A script without capitals has no names.
    """
    words = list(filter(None, (_EDGES.sub("", part) for part in _BREAK.split(text))))
    small = [word.lower() for word in words]
    dated = [bool(_DATE.fullmatch(word)) for word in small]
    if any(dated) and all(date or _BESIDE_DATE.fullmatch(word) for date, word in zip(dated, small, strict=True)):
        return "date"
    first = next((word for word in small if not _BESIDE_NUMBER.fullmatch(word)), "")
    if _NUMBER.fullmatch(first):
        return "number"
    large = [word[0].isupper() or word[0].isdigit() for word in words]
    named = all(begins or _BESIDE_NAME.fullmatch(word) for begins, word in zip(large, small, strict=True))
    return "name" if named and any(word[0].isupper() for word in words) else "phrase"


def bin_names(lasts: Sequence[int]) -> list[str]:
    """Names of bins of whole numbers, from the last value of each closed bin: (1, 3) gives 1, 2 to 3, 4 or more."""
    names = [str(lasts[0]) if lasts[0] == 1 else f"up to {lasts[0]}"]
    for before, last in pairwise(lasts):
        names.append(str(last) if last == before + 1 else f"{before + 1} to {last}")
    return [*names, f"{lasts[-1] + 1} or more"]


def binned(values: np.ndarray, lasts: Sequence[int]) -> np.ndarray:
    """The number of the bin of each value (see `bin_names`), int of the values' shape; -1 stays -1."""
    return np.where(values == -1, -1, np.searchsorted(lasts, values))


def read_slicings(scores_file: str | Path) -> tuple[list[Slicing], np.ndarray, list[str]]:
    """All slicings of the questions of question_scores.parquet, and the questions' scores and titles for `rows`.

    Unanswerable questions are in no slice by answer length, type or position. Some thousand contexts are in memory at
    a time. Raises as question_scores.batches.
    """
    titles: list[str] = []
    features: list[tuple[int, ...]] = []
    columns = ["title", "question", "context", "gold"]
    progress = Progress("read", question_scores.number_of_questions(scores_file), "questions")
    for batch in question_scores.batches(scores_file, columns):
        contexts = batch.column("context")
        sizes = [(len(text.split()), len(text)) for text in contexts.dictionary.to_pylist()]
        golds, starts = golds_of(batch), golds_of(batch, "start")
        asked, places = batch.column("question").to_pylist(), contexts.indices.to_pylist()
        for question, place, texts, begins in zip(asked, places, golds, starts, strict=True):
            words, characters = sizes[place]
            word = QUESTION_WORDS.index(question_word(question))
            features.append((word, words, *_features_of_answer(texts, begins, characters)))
        titles += batch.column("title").to_pylist()
        progress.reach(len(titles))
    word, context_words, answer_words, kind, quarter = np.array(features, np.int64).reshape(-1, 5).T
    numbers = question_scores.read(scores_file, numbers=("exact", "f1", "windows"))
    distinct = {title: number for number, title in enumerate(dict.fromkeys(titles))}
    article = np.array([distinct[title] for title in titles], np.int64)
    slicings = [
        Slicing("answerability", ("answerable", "unanswerable"), (answer_words == -1).astype(np.int64)),
        Slicing("question word", QUESTION_WORDS, word),
        Slicing("answer length in words", bin_names(ANSWER_WORDS), binned(answer_words, ANSWER_WORDS)),
        Slicing("answer type", ANSWER_TYPES, kind),
        Slicing("answer position in the context", QUARTERS, quarter),
        Slicing("context length in words", bin_names(CONTEXT_WORDS), binned(context_words, CONTEXT_WORDS)),
        Slicing("windows", bin_names(WINDOWS), binned(numbers["windows"], WINDOWS)),
        Slicing("article", [title or NO_TITLE for title in distinct], article),
    ]
    return slicings, np.stack([numbers["exact"], numbers["f1"]], axis=1), titles


def _features_of_answer(texts: list[str], starts: list[int], characters: int) -> tuple[int, int, int]:
    """Words of the shortest gold answer, type of the most common one (the first of equals), quarter of the context's
    characters where the first one starts; -1 each without an answer.
    """
    if not texts:
        return -1, -1, -1
    (common, _), *_ = Counter(texts).most_common(1)
    shortest = max(1, min(len(text.split()) for text in texts))
    return shortest, ANSWER_TYPES.index(answer_type(common)), 4 * starts[0] // characters


def rows(slicing: Slicing, scores: np.ndarray, titles: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row of COLUMNS for each slice that holds a question; scores in percent.

    `scores`: float64 (questions, 2), exact match and F1 from 0 to 1. A slice of fewer than LEAST_QUESTIONS has no
    interval. The bootstrap draws whole articles where the slice has at least statistics.LEAST_ARTICLES of them, else
    single questions; `resampled` says which.
    """
    order = np.argsort(slicing.place, kind="stable")
    bounds = np.searchsorted(slicing.place[order], np.arange(len(slicing.names) + 1))
    for number, name in enumerate(slicing.names):
        members = order[bounds[number] : bounds[number + 1]]
        if not len(members):
            continue
        values = scores[members]
        exact, f1 = (100.0 * values.sum(axis=0) / len(values)).tolist()
        row = {"kind": slicing.kind, "slice": name, "count": len(members), "exact": exact, "f1": f1}
        if len(members) >= LEAST_QUESTIONS:
            article = clusters([titles[member] for member in members])
            ends = bootstrap(Ratios(["exact", "f1"], values, np.ones_like(values)), article)
            row |= {f"{metric}_low": low for metric, (low, _) in ends.items()}
            row |= {f"{metric}_high": high for metric, (_, high) in ends.items()}
            row["resampled"] = "questions" if article is None else "articles"
        yield row


def write_slices(scores_file: str | Path, target: str | Path) -> list[dict[str, Any]]:
    """Write slices.csv: a row of COLUMNS for each slice of the questions of question_scores.parquet.

    Cells of intervals are empty for slices of few questions (see `rows`).
    """
    slicings, scores, titles = read_slicings(scores_file)
    found = []
    progress = Progress("slice", sum(int((slicing.place >= 0).sum()) for slicing in slicings), "scores")
    for slicing in slicings:
        for row in rows(slicing, scores, titles):
            found.append(row)
            progress.reach(progress.done + row["count"])
    write_csv(target, COLUMNS, found)
    log.info(f"{len(found):,} slices of {len(titles):,} questions")
    return found
