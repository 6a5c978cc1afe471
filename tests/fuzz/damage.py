"""Questions in every state of repair: texts of many scripts, right rows, faults of their values, broken bytes."""

import copy
import csv
import gzip
import io
import json
import unicodedata
from typing import Any

from hypothesis import strategies as st

PLAIN = [
    "mill",
    "1412",
    "€40",
    "the",
    "Söhl",
    "$",
    "–",
    "NaN",
    "null",
    "NA",
    "007",
    "1e5",
    "a,b",
    'say "x"',
    "\\n",
    "|",
]
JOINED = ["e\u0301te\u0301", "q\u0323\u0307", "\u0301", "zero\u200bwidth", "\u200d", "\ufeff", "soft\u00adhyphen"]
SCRIPTS = [
    "שלום",
    "السّلام",
    "\u202eabc\u202c",
    "東京都",
    "नमस्ते",
    "👩\u200d👩\u200d👧",
    "😀",
    "\U0001d53e",
    "🇨🇦",
    "ﬁ",
    "ẞ",
    "İ",
]
CONTROLS = ["\x00", "\x1f", "\x7f", "\x85", "\u2028", "\ufffd", "\uffff", "\U0010ffff"]
SPACES = [" ", "  ", "\n", "\r\n", "\r", "\t", "\u00a0", "\u3000", ""]
HALVES = ["\ud800", "\udc00", "a\udfff"]

words = st.sampled_from([*PLAIN, *JOINED, *SCRIPTS, *CONTROLS]) | st.text(st.characters(codec="utf-8"), max_size=6)
texts = st.lists(st.tuples(words, st.sampled_from(SPACES)), max_size=12).map(lambda parts: "".join(map("".join, parts)))
odd = st.recursive(
    st.sampled_from([None, True, False, 0, -1, 1.5, 2**31, 2**63, 10**40, "", "x", *HALVES])
    | st.sampled_from([float("nan"), float("inf"), {}, [], [[]], {"text": []}]).map(copy.deepcopy),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "id", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def _in_bytes(context: str, start: int) -> int:
    return len(context[:start].encode())


def _in_utf_16(context: str, start: int) -> int:
    return len(context[:start].encode("utf-16-le")) // 2


OFFSETS = [
    *(_in_bytes, _in_utf_16),
    *(lambda context, start: start + 1, lambda context, start: start - 1, lambda context, start: -1 - start),
    *(lambda context, start: start + len(context), lambda context, start: start - len(context)),
    *(lambda context, start: 2**31 + start, lambda context, start: -(2**63), lambda context, start: 10**30),
    *(lambda context, start: float(start), lambda context, start: str(start), lambda context, start: None),
    *(lambda context, start: True, lambda context, start: float("nan")),
]


@st.composite
def right_rows(draw: Any, most: int = 5) -> list[dict[str, Any]]:
    """Rows without a fault: id, title, context, question and answers that stand where they say."""
    rows = []
    for number in range(draw(st.integers(1, most))):
        context = draw(texts)
        answers = []
        for _ in range(draw(st.sampled_from([0, 1, 1, 2])) if context else 0):
            start = draw(st.integers(0, len(context) - 1))
            stop = draw(st.integers(start + 1, len(context)))
            answers.append({"text": context[start:stop], "answer_start": start})
        question = draw(texts.filter(lambda text: text.strip()))
        named = f"{draw(words)}{number}"
        rows.append({"id": named, "title": draw(words), "context": context, "question": question, "answers": answers})
    return rows


@st.composite
def damaged_rows(draw: Any) -> list[dict[str, Any]]:
    """Right rows, and up to three faults in them."""
    rows = draw(right_rows())
    for _ in range(draw(st.integers(0, 3))):
        draw(st.sampled_from([_misplace, _misplace, _retype, _leave_out, _name_twice, _halve, _contradict, _reshape]))(
            draw, rows
        )
    return rows


def _misplace(draw: Any, rows: list[dict[str, Any]]) -> None:
    row = draw(st.sampled_from(rows))
    if isinstance(row.get("answers"), list) and isinstance(row.get("context"), str):
        for answer in row["answers"]:
            start = answer.get("answer_start") if isinstance(answer, dict) else None
            if isinstance(start, int) and 0 <= start <= len(row["context"]) and _whole(row["context"]):
                answer["answer_start"] = draw(st.sampled_from(OFFSETS))(row["context"], start)


def _whole(text: str) -> bool:
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in text)


def _retype(draw: Any, rows: list[dict[str, Any]]) -> None:
    draw(st.sampled_from(rows))[draw(st.sampled_from(["id", "title", "context", "question", "answers", "extra"]))] = (
        draw(odd)
    )


def _leave_out(draw: Any, rows: list[dict[str, Any]]) -> None:
    draw(st.sampled_from(rows)).pop(draw(st.sampled_from(["id", "title", "context", "question", "answers"])), None)


def _name_twice(draw: Any, rows: list[dict[str, Any]]) -> None:
    rows.append({**draw(st.sampled_from(rows))})


def _halve(draw: Any, rows: list[dict[str, Any]]) -> None:
    row, key = draw(st.sampled_from(rows)), draw(st.sampled_from(["id", "title", "context", "question"]))
    row[key] = f"{row.get(key)}{draw(st.sampled_from(HALVES))}"


def _contradict(draw: Any, rows: list[dict[str, Any]]) -> None:
    draw(st.sampled_from(rows))["is_impossible"] = draw(st.sampled_from([True, False, "true", 1, None]))


def _reshape(draw: Any, rows: list[dict[str, Any]]) -> None:
    """The hub's form of answers, with one list longer than the other, perhaps."""
    row = draw(st.sampled_from(rows))
    if isinstance(row.get("answers"), list) and all(isinstance(answer, dict) for answer in row["answers"]):
        columns = {key: [answer.get(key) for answer in row["answers"]] for key in ("text", "answer_start")}
        row["answers"] = columns
        if draw(st.booleans()):
            columns[draw(st.sampled_from(["text", "answer_start"]))].append(draw(odd))


def is_right(row: dict[str, Any]) -> bool:
    """Whether a row can be read as one question, by the words of the documents."""
    identity, answers = row.get("id"), row.get("answers")
    if not (_is_number(identity) or (isinstance(identity, str) and identity and _whole(identity))):
        return False
    if not all(isinstance(row.get(key), str) and _whole(row[key]) for key in ("question", "context")):
        return False
    title = row.get("title")
    if not (title is None or _is_number(title) or (isinstance(title, str) and _whole(title))):
        return False
    if isinstance(answers, str):
        try:
            answers = json.loads(answers)
        except ValueError:
            return False
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list) or not (
            starts is None or (isinstance(starts, list) and len(texts) == len(starts))
        ):
            return False
    elif not isinstance(answers, list) or not all(isinstance(answer, dict | str) for answer in answers):
        return False
    answers = answers_of(row)
    well = all(isinstance(answer["text"], str) and _is_start(answer["answer_start"]) for answer in answers)
    contradicts = str(row.get("is_impossible")).lower() in (("true", "1") if answers else ("false", "0"))
    return bool(row["question"].strip()) and well and not contradicts


def _is_start(value: Any) -> bool:
    return value is None or _is_number(value) or (isinstance(value, float) and value.is_integer())


def stands(answer: dict[str, Any], context: str) -> bool:
    """Whether an answer's text is the characters of the context that begin at its start."""
    text, start = answer["text"], answer["answer_start"]
    return bool(text) and start is not None and start >= 0 and context[int(start) : int(start) + len(text)] == text


def findable(answer: dict[str, Any], context: str) -> bool:
    """Whether an answer's text is somewhere in the context, but for white space and Unicode form."""
    if answer["text"] in context:
        return bool(answer["text"])
    spans = ((first, last) for first in range(len(context)) for last in range(first + 1, len(context) + 1))
    return bool(folded(answer["text"])) and any(
        folded(context[first:last]) == folded(answer["text"]) for first, last in spans
    )


def folded(text: str) -> str:
    """A text in NFD, letter by letter, with single spaces and none around it."""
    return " ".join("".join(unicodedata.normalize("NFD", letter) for letter in text).split())


def answers_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of a right row, in the list's form; none if all of them are empty or white space."""
    answers = json.loads(row["answers"]) if isinstance(row["answers"], str) else row["answers"]
    if isinstance(answers, dict):
        starts = answers.get("answer_start") or [None] * len(answers["text"])
        answers = [{"text": text, "answer_start": start} for text, start in zip(answers["text"], starts, strict=True)]
    answers = [{"text": answer} if isinstance(answer, str) else answer for answer in answers]
    starts = [answer.get("answer_start") for answer in answers]  # NaN is none, as pandas means it
    answers = [
        {"text": answer.get("text"), "answer_start": start if start == start else None}
        for answer, start in zip(answers, starts, strict=True)
    ]
    return [] if all(str(answer["text"]).strip() == "" for answer in answers) else answers


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def nested(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """SQuAD's own form, an article and a paragraph for each row."""
    data = []
    for row in rows:
        outer = {key: row[key] for key in ("context",) if key in row}
        question = {key: value for key, value in row.items() if key not in ("context", "title")}
        titled = {key: row[key] for key in ("title",) if key in row}
        data.append({**titled, "paragraphs": [{**outer, "qas": [question]}]})
    return {"version": "v2.0", "data": data}


def in_lines(rows: list[dict[str, Any]], ends: str = "\n") -> bytes:
    """JSON lines, their letters escaped, so that half a surrogate can be written."""
    return ends.join(json.dumps(row) for row in rows).encode()


def in_csv(rows: list[dict[str, Any]]) -> bytes:
    """A CSV file, its answers as JSON."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["id", "title", "context", "question", "answers"])
    writer.writeheader()
    writer.writerows({**row, "answers": json.dumps(row["answers"])} for row in rows)
    return stream.getvalue().encode()


@st.composite
def broken(draw: Any, content: bytes) -> bytes:
    """Bytes that a transfer or an editor has changed: cut, flipped, put in, marked in front, or packed before that."""
    for change in draw(
        st.lists(st.sampled_from(["cut", "flip", "insert", "mark", "utf-16", "ends", "pack"]), max_size=3)
    ):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        if change == "cut":
            content = content[:place]
        elif change == "flip" and content:
            content = content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]
        elif change == "insert":
            content = (
                content[:place]
                + draw(st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b'"', b"\n"]))
                + content[place:]
            )
        elif change == "mark":
            content = b"\xef\xbb\xbf" + content
        elif change == "utf-16":
            content = content.decode("latin-1").encode("utf-16")
        elif change == "ends":
            content = content.replace(b"\n", b"\r\n")
        else:
            content = gzip.compress(content, mtime=0)
    return content
