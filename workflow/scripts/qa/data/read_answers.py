"""Files of answers by question id: one JSON object, or a row an answer as a JSON list or JSON lines; .gz too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from qa.common.errors import InputError, some, unencodable
from qa.common.files import STRICT_JSON, decoded, read_text
from qa.data.file_formats import json_or_none, unzipped

TEXT_KEYS = ("answer", "text")
ROUNDING = 0.01  # by which two probabilities that a file rounds may exceed 1


class GivenAnswer(NamedTuple):
    """An answer as a file gives it.

    `text`: "" for no answer; `probability` of this answer, or of no answer where that is given, and `null_probability`
    of no answer, both from 0 to 1, None where the file does not say; `start`: character of the context, None likewise.
    """

    text: str
    probability: float | None = None
    null_probability: float | None = None
    start: int | None = None


def read_answers(path: str | Path) -> dict[str, GivenAnswer]:
    """The answers of a file by question id, in its order.

    The file is a JSON object `{id: text}`, or it has a row an answer (a list, or JSON lines): `id`, `answer` or `text`
    ("" for no answer) and, where known, `probability`, `null_probability` and `start`; other keys are not read. `qa ask
    --json` prints such rows. Raises InputError for anything else, for an id that appears twice, and for probabilities
    of an answer and of none that add up to more than 1.
    """
    value = json_of(path)
    if isinstance(value, dict) and not ("id" in value and any(key in value for key in TEXT_KEYS)):
        texts = by_id(value, path, "a text", lambda text: isinstance(text, str))
        return {identity: _answer({"text": text}, f"{path}: id {identity!r}") for identity, text in texts.items()}
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) for row in rows):
        by_id(None, path, "a text", bool)
    found: dict[str, GivenAnswer] = {}
    for number, row in enumerate(rows, 1):
        identity = row.get("id")
        identity = str(identity) if type(identity) is int else identity
        if not isinstance(identity, str) or not identity:
            raise InputError(f"{path}: row {number} has no `id` (a text that is not empty)")
        where = f"{path}: row {number}, id {identity!r}"
        if identity in found:
            raise InputError(f"{where} occurs twice; give each question one answer")
        found[identity] = _answer(row, where)
    return found


def by_id(value: Any, path: str | Path, kind: str, is_right: Callable[[Any], bool]) -> dict[str, Any]:
    """A JSON object of question ids as it is. Raises InputError for anything else, and for values that are not right.

    `kind` names what a right value is.
    """
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object of question ids; it must map each id to {kind}")
    if wrong := [key for key, each in value.items() if not is_right(each)]:
        raise InputError(f"{path}: not {kind} for {len(wrong):,} ids ({some(wrong)}); it must map each id to {kind}")
    return value


def json_of(path: str | Path) -> Any:
    """The value of a JSON file, or the list of the values of a file of JSON lines; .gz too.

    Raises InputError for a file that cannot be read, also for an object with a key twice.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file")
    with unzipped(Path(path), str(path)) as plain:
        text = read_text(plain, str(path))
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and json_or_none(lines[0][1]) is not None:
        return [decoded(line, str(path), f"line {number}", STRICT_JSON) for number, line in lines]
    return decoded(text, str(path), decoder=STRICT_JSON)


def _answer(row: dict[str, Any], where: str) -> GivenAnswer:
    texts = [row[key] for key in TEXT_KEYS if key in row]
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise InputError(f'{where}: it needs one text, `answer` or `text`; write "" for no answer')
    if fault := unencodable(texts[0]):
        raise InputError(f"{where}: its answer {fault}")
    text = texts[0] if texts[0].strip() else ""
    probability, null = (_probability(row.get(key), f"{where}: `{key}`") for key in ("probability", "null_probability"))
    if text and probability is not None and null is not None and probability + null > 1 + ROUNDING:
        both = f"`probability` {probability:g} and `null_probability` {null:g}"
        raise InputError(f"{where}: {both} add up to more than 1; correct them, or leave one out")
    start = row.get("start")
    return GivenAnswer(text, probability, null, start if type(start) is int else None)


def _probability(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise InputError(f"{where} is {str(value)[:40]!r}, not a probability from 0 to 1")
    return float(value)
