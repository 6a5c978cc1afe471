"""Rows of windows made one by one in plain Python, to compare with; and what tests of windows are made of."""

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import tiny
from qa.windows.labels import NONE

TOKENIZERS = {name: make() for name, make in tiny.FAMILIES.items()}
families = pytest.mark.parametrize("family", TOKENIZERS)
SETTINGS = {"max_length": 40, "overlap": 6, "max_question_length": 12, "long_contexts": "windows", "labels": "exact"}
WORDS = [
    "the",
    "bridge",
    "Söhl",
    "1412",
    "€40",
    "naïve",
    "東京",
    "a",
    "Venn-Mor,",
    "ﬁne",
    "\u200e1893\u200f",
    "e\u0301t\u00e9",
    "x" * 30,
    "…",
]
GAPS = [" ", " ", "  ", "\n", " \u00a0", "\u3000", "", "-"]


def texts(longest: int, shortest: int = 1) -> st.SearchStrategy[str]:
    """Texts of so many words, in several scripts, with unusual white space."""
    parts = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(GAPS)), min_size=shortest, max_size=longest)
    return parts.map(lambda pairs: "".join(word + gap for word, gap in pairs))


def blank(letter: str) -> bool:
    """Whether a letter of these tests is white space or invisible. Arabic's visible format characters do not occur."""
    return letter.isspace() or (unicodedata.category(letter) in ("Cc", "Cf") and letter not in "\u200c\u200d")


def without_space(text: str, start: int, stop: int) -> tuple[int, int]:
    """The span [start, stop) without the blank letters at its ends."""
    while start < stop and blank(text[start]):
        start += 1
    while stop > start and blank(text[stop - 1]):
        stop -= 1
    return start, stop


def covering(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of tokens, with the letters that no token has: marks go to the token before, others to the token after."""
    runs: list[list[int]] = []
    for place in range(len(text)):
        if blank(text[place]) or any(start <= place < stop for start, stop in spans):
            continue
        if runs and runs[-1][1] == place and place not in [start for start, _ in spans]:
            runs[-1][1] = place + 1
        else:
            runs.append([place, place + 1])
    tokens = [list(span) for span in spans]
    for first, last in runs:
        before = [token for token, (_, stop) in zip(tokens, spans, strict=True) if stop == first]
        after = [token for token, (start, _) in zip(tokens, spans, strict=True) if start == last]
        middle, narrow = first, [token for token in after if token[0] == token[1]]
        while before and middle < last and (not after or unicodedata.category(text[middle])[0] == "M"):
            middle += 1
        for token in before:
            token[1] = middle
        for token in narrow or after:
            token[0] = middle
    return [(start, stop) for start, stop in tokens]


def between_letters(text: str, start: int, stop: int) -> tuple[int, int]:
    """A span without letters from the next letter to the end of the last one, which is before it; others stay."""
    if start < stop:
        return start, stop
    after = [place for place in range(start, len(text)) if not blank(text[place])]
    before = [place + 1 for place in range(stop) if not blank(text[place])]
    return min(after, default=len(text)), max(before, default=0)


def plain_tokens(tokenizer: Any, text: str, trim: bool) -> list[tuple[int, int, int]]:
    """Id, start and stop of each token of a text."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    if trim:
        offsets = covering(text, [without_space(text, *span) for span in offsets])
        offsets = [between_letters(text, *span) for span in offsets]
    return [(token, *span) for token, span in zip(encoded["input_ids"], offsets, strict=True)]


def exact_label(offsets: list[tuple[int, int]], start: int, stop: int) -> tuple[int, int]:
    """First and last of the tokens that hold a character of [start, stop)."""
    holding = [n for n, (a, b) in enumerate(offsets) if a < b and a < stop and b > start]
    return (holding[0], holding[-1]) if holding else (NONE, NONE)


def walkthrough_label(offsets: list[tuple[int, int]], start: int, stop: int) -> tuple[int, int]:
    """Where the walkthrough's scans from both ends of a context stop."""
    if not offsets or offsets[0][0] > stop or offsets[-1][1] < start:
        return NONE, NONE
    first = 0
    while first < len(offsets) and offsets[first][0] <= start:
        first += 1
    last = len(offsets) - 1
    while last >= 0 and offsets[last][1] >= stop:
        last -= 1
    return first - 1, last + 1


def plain_label(
    context: list[tuple[int, int, int]], begin: int, end: int, golds: list[tuple[int, int]], rule: str
) -> tuple[int, int]:
    """The answer's label by a rule, counted in the window [begin, end) of the context."""
    offsets = [(start, stop) for _, start, stop in context]
    if rule == "walkthrough":
        return walkthrough_label(offsets[begin:end], *golds[0]) if golds else (NONE, NONE)
    for gold in golds:
        first, last = exact_label(offsets, *gold)
        if begin <= first and last < end:
            return first - begin, last - begin
    return NONE, NONE


def plain_rows(tokenizer: Any, settings: dict[str, Any], records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of records, for a tokenizer with the special tokens of BERT (token types) or RoBERTa (none)."""
    cls, sep = (tokenizer.cls_token_id, 0, 0), (tokenizer.sep_token_id, 0, 0)
    with_types = "token_type_ids" in tokenizer.model_input_names
    between = [sep] if with_types else [sep, sep]
    rows, trim = [], settings["labels"] == "exact"
    for number, record in enumerate(records):
        question = plain_tokens(tokenizer, record["question"].strip(), trim)[: settings["max_question_length"]]
        context = plain_tokens(tokenizer, record["context"], trim)
        answers = zip(*(record["answers"][name] for name in ("text", "answer_start")), strict=True)
        golds = [(start, start + len(text)) for text, start in answers]
        room = settings["max_length"] - 2 - len(between) - len(question)
        head = [cls, *question, *between]
        begin = window = 0
        while True:
            end = min(begin + room, len(context))
            tokens = [*head, *context[begin:end], sep]
            first, last = plain_label(context, begin, end, golds, settings["labels"])
            rows.append(
                {
                    "id": record["id"],
                    "record": number,
                    "window": window,
                    "input_ids": [token for token, _, _ in tokens],
                    "offset_start": [start for _, start, _ in tokens],
                    "offset_end": [stop for _, _, stop in tokens],
                    "context_token": begin,
                    "context_start": len(head),
                    "context_stop": len(head) + end - begin,
                    "null_position": 0,
                    "start_positions": 0 if first == NONE else len(head) + first,
                    "end_positions": 0 if last == NONE else len(head) + last,
                }
            )
            if settings.get("answers") == "all":
                places = [plain_label(context, begin, end, [gold], "exact") for gold in golds]
                held = [(len(head) + first, len(head) + last) for first, last in places if first != NONE]
                rows[-1]["golds"] = [place for pair in held or [(0, 0)] for place in pair]
            if with_types:
                rows[-1]["token_type_ids"] = [0] * len(head) + [1] * (len(tokens) - len(head))
            if end == len(context) or settings["long_contexts"] == "truncate":
                break
            begin, window = begin + room - settings["overlap"], window + 1
    return rows


def as_lists(rows: Any) -> list[dict[str, Any]]:
    """Rows with lists instead of arrays."""
    return [{name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in row.items()} for row in rows]
