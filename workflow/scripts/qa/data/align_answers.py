"""Align answers: gold answers that do not stand at their place in the context, found elsewhere or dropped."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from unicodedata import combining

from qa.common.errors import InputError, some

TEXT_SHOWN = 40  # characters of a text that a message shows
MISALIGNED_SHOWN = 3  # misaligned answers that a message shows
MISALIGNED = "misaligned"  # key of the metadata of a records file, with QuestionCounts.misaligned
UNITS = {"utf-16-le": 2, "utf-8": 1}  # what JavaScript and byte strings count; bytes of a unit


@dataclass(frozen=True)
class GoldAnswer:
    """An answer's text and the character of the context where it starts, None where the file does not say."""

    text: str
    start: int | None

    def stands_in(self, context: str) -> bool:
        """Whether the text is not empty and stands at its place in the context."""
        return (
            bool(self.text) and self.start is not None and self.start >= 0 and context.startswith(self.text, self.start)
        )


@dataclass(frozen=True)
class QuestionRecord:
    """One question about one context; a question without answers is unanswerable. `where`: its file, line and id."""

    id: str
    title: str
    context: str
    question: str
    answers: tuple[GoldAnswer, ...]
    where: str


@dataclass
class QuestionCounts:
    """What `convert` counted. `found`: misaligned answers that stand elsewhere in their context."""

    questions: int = 0
    unanswerable: int = 0
    found: int = 0
    realigned: int = 0
    dropped_answers: int = 0
    dropped_questions: int = 0

    def misaligned(self) -> dict[str, int]:
        """What became of misaligned answers, by the names in metrics.json; only what is not 0."""
        counts = {"realigned_answers": self.realigned, "dropped_answers": self.dropped_answers}
        counts["dropped_questions"] = self.dropped_questions
        return {name: count for name, count in counts.items() if count}


class AnswerAligner:
    """Finds misaligned answers and treats them as `misaligned` says (see `convert`).

    `counts` counts the questions that remain; `faults` describes each answer that cannot stay.
    """

    def __init__(self, misaligned: str):
        self.misaligned = misaligned
        self.counts = QuestionCounts()
        self.faults: list[str] = []

    def aligned(self, record: QuestionRecord) -> QuestionRecord | None:
        """The record with the answers that remain; None where a question had answers and none remains."""
        answers = []
        for answer in record.answers:
            if answer.stands_in(record.context):
                answers.append(answer)
                continue
            found = realigned(record.context, answer)
            self.counts.found += found is not None
            if self.misaligned == "realign" and found is not None:
                self.counts.realigned += 1
                answers.append(found)
            else:
                self.counts.dropped_answers += 1
                self.faults.append(_fault(record, answer, found))
        if record.answers and not answers:
            self.counts.dropped_questions += 1
            return None
        self.counts.questions += 1
        self.counts.unanswerable += not answers
        return replace(record, answers=tuple(answers))

    def outcome(self, names: Sequence[str | Path]) -> str:
        """What became of the misaligned answers of files with these names, in words; "" where there is none.

        Raises InputError where they may not be dropped, or where no question is left.
        """
        if not self.counts.questions and not self.faults:
            raise InputError(f"{some(names)}: no questions in there")
        if not self.faults:
            return ""
        fault = f"{len(self.faults):,} answers do not stand at their place: {some(self.faults, MISALIGNED_SHOWN)}"
        realign = f"`realign` finds {self.counts.found:,} of them in their contexts"
        if self.misaligned == "error":
            raise InputError(
                f"{fault}. Correct answer_start, or set the dataset's `misaligned`: {realign}, `drop` none"
            )
        if self.misaligned == "drop":
            fault += f"; {realign}"
        if not self.counts.questions:
            raise InputError(f"{fault}. Without them no question is left")
        return f"dropped: {fault}"


def _fault(record: QuestionRecord, answer: GoldAnswer, found: GoldAnswer | None) -> str:
    """What is wrong with a misaligned answer, in words."""
    show = ascii if found and found.text != answer.text else repr  # so that texts which print alike are told apart
    text = show(answer.text[:TEXT_SHOWN])
    if answer.start is None:
        fault = f"{text} has no answer_start"
    else:
        there = record.context[max(answer.start, 0) :][:TEXT_SHOWN]
        fault = f"{text} at {answer.start}, where {show(there)} stands"
    if found is None:
        fault += " (it stands nowhere in the context)"
    elif found.text == answer.text:
        fault += f" (it stands at {found.start})"
    else:
        fault += f" ({show(found.text[:TEXT_SHOWN])} at {found.start} differs in white space or Unicode form only)"
    return f"{record.where}: {fault}"


def realigned(context: str, answer: GoldAnswer) -> GoldAnswer | None:
    """The answer where its text stands nearest to its start, the first of equals; None where it stands nowhere.

    If it stands where the start means UTF-16 units or bytes, it is taken from there. Without a start, the first place
    that does not cut a word is taken, else the first. White space and Unicode form (NFC, NFD) do not count, and the
    answer gets the context's own letters.
    """
    start = max(answer.start or 0, 0)
    for encoding, size in UNITS.items() if start else ():
        counted = replace(answer, start=len(context.encode(encoding)[: start * size].decode(encoding, "ignore")))
        if counted.stands_in(context):
            return counted
    before, after = context.rfind(answer.text, 0, start + len(answer.text)), context.find(answer.text, start)
    spans = [(place, place + len(answer.text)) for place in (before, after) if place >= 0 and answer.text]
    spans += _equivalents(context, answer.text)  # " Paris" may stand exactly elsewhere, and "Paris" at its start
    if answer.start is None:
        spans = [span for span in spans if not _cuts_a_word(context, span)] or spans
    first, last = min(spans, key=lambda span: abs(span[0] - start), default=(0, 0))
    return GoldAnswer(context[first:last], first) if last else None


def _cuts_a_word(context: str, span: tuple[int, int]) -> bool:
    """Whether letters or digits stand on both sides of a span's first or last edge."""
    return any(context[edge - 1 : edge].isalnum() and context[edge : edge + 1].isalnum() for edge in span if edge)


def _equivalents(context: str, text: str) -> Iterator[tuple[int, int]]:
    """Where a text stands in a context as (first, last + 1) but for white space and Unicode form."""
    (letters, places), wanted = _folded(context), _folded(text)[0].strip()
    first = letters.find(wanted) if wanted else -1
    while first >= 0:
        last = first + len(wanted)
        # not from or to the middle of a letter with an accent
        if places[first] != places[first - 1] and places[last] != places[last - 1]:
            yield places[first], places[last]
        first = letters.find(wanted, first + 1)


@lru_cache(maxsize=2)  # a context, and one answer after the other
def _folded(text: str) -> tuple[str, list[int]]:
    """A text in NFD with single spaces, and the place of each of its characters in the text, then the text's length.

    Marks that NFD reorders, such as Arabic's shadda after a vowel, have the place of the letter that bears them.
    """
    letters: list[str] = []
    places: list[int] = []
    for place, letter in enumerate(text):
        if letter.isspace():
            decomposed = "" if letters[-1:] == [" "] else " "
        else:
            decomposed = unicodedata.normalize("NFD", letter)
        letters += decomposed
        places += [place] * len(decomposed)
        base = len(letters) - len(decomposed)
        if 0 < base < len(letters) and 0 < combining(letters[base]) < combining(letters[base - 1]):
            while base and combining(letters[base]):
                base -= 1
            letters[base:] = sorted(letters[base:], key=combining)
            places[base:] = [places[base]] * (len(letters) - base)
    return "".join(letters), [*places, len(text)]
