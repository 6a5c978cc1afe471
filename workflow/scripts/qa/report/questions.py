"""The error browser: blocks of data with every evaluated question, its context, and the answers of the runs.

Places in texts are counted in UTF-16 code units, as browsers count them. A character beyond the Basic Multilingual
Plane, such as an emoji, is two code units.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from qa.common.errors import InputError
from qa.common.parquet import opened
from qa.evaluation import analyze_errors, question_scores, slices
from qa.report import page
from qa.report.results import Answers, Results

ROOM = 15_000_000  # bytes of embedded answers before compression: some 7 MB of the page
CANDIDATES = 5  # shown of an n-best list
CORRECT = "correct"
KINDS = (
    CORRECT,
    analyze_errors.MISSED,
    analyze_errors.UNANSWERABLE,
    analyze_errors.BOUNDARY,
    analyze_errors.WRONG_SPAN,
)
PERMILLE = 1000


@dataclass(frozen=True)
class SplitQuestions:
    """The questions of a split in order: `ids`, and for each question the number of its context among `contexts`.

    `contexts` are distinct. `astral` has, by number of the context, the places of its characters that are two code
    units; contexts without such characters are left out.
    """

    ids: list[str]
    contexts: list[str]
    context: np.ndarray
    astral: dict[int, np.ndarray]

    def in_code_units(self, question: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Convert places in the contexts of questions, int arrays of one shape, from characters to code units."""
        units = place.astype(np.int64)
        numbers = self.context[question]
        for number in self.astral.keys() & set(numbers.tolist()):
            inside = numbers == number
            units[inside] += np.searchsorted(self.astral[number], place[inside])
        return units


def section(results: Results, figures: Any) -> page.Section | None:
    """The section with its data; None if nothing is evaluated."""
    if not results.answers:
        return None
    blocks: list[tuple[str, bytes]] = []
    splits: dict[str, dict[str, Any]] = {}
    questions: dict[str, SplitQuestions] = {}
    for split in results.splits:
        columns, questions[split] = question_columns(results, split)
        name = f"questions-data-{len(splits)}"
        blocks.append((name, as_block(columns)))
        splits[split] = {"name": split, "questions": len(columns["ids"]), "block": name, "answers": []}
    omitted, room = [], ROOM
    for answers in in_order(results):
        entries = splits[answers.split]["answers"]
        columns = answer_columns(answers, questions[answers.split])
        block = as_block(columns)
        if entries and len(block) > room:
            omitted.append(answers)
            continue
        room -= len(block)
        name = f"{splits[answers.split]['block']}-{len(entries)}"
        blocks.append((name, block))
        entries.append(_entry(results, answers, name, columns["kind"]))
    order = {(answers.split, answers.name): number for number, answers in enumerate(results.answers)}
    for split, entry in splits.items():
        entry["answers"].sort(key=lambda answers: order[split, answers["name"]])
    index = {"kinds": KINDS, "splits": list(splits.values())}
    blocks.insert(0, ("questions-data", as_block(index)))
    body = page.render("questions.html", splits=index["splits"], omitted=omitted, several=len(splits) > 1)
    return page.Section("questions", "Questions", body, tuple(blocks))


def _entry(results: Results, answers: Answers, block: str, kinds: list[int]) -> dict[str, Any]:
    """A set of answers in the index: names, block, threshold in logits, and how many questions of each kind it has."""
    counts, threshold = Counter(kinds), results.threshold(answers)
    return {
        "name": answers.name,
        "run": answers.run,
        "block": block,
        "threshold": None if threshold is None else round(threshold, 2),
        "counts": [counts[kind] for kind in range(len(KINDS))],
    }


def in_order(results: Results) -> Iterator[Answers]:
    """All sets of answers: first one variant of each run and decoding, then the remaining variants."""
    first = [answers for split in results.splits for answers in results.one_of_each(split)]
    yield from first
    yield from (answers for answers in results.answers if answers not in first)


def as_block(columns: dict[str, Any]) -> bytes:
    """Compact JSON. Half a surrogate pair, which is no character, becomes a question mark."""
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def question_columns(results: Results, split: str) -> tuple[dict[str, Any], SplitQuestions]:
    """The columns of a split's questions, and the SplitQuestions that convert places in their contexts.

    `ids`, `questions`: texts; `context`, `title`: numbers among the distinct `contexts` and `titles`; `gold`: for each
    question the distinct places of its gold answers, [start, length, start, length, ...]; `slices`: each has a `kind`,
    `names`, and `place`, for each question the number of its slice or -1.
    """
    with opened(results.records(split)) as file:
        table = file.read(["id", "title", "context", "question", "answers"])
    contexts, context = _numbered(table.column("context").to_pylist())
    titles, title = _numbered(table.column("title").to_pylist())
    astral = {n: places for n, text in enumerate(contexts) if len(places := _astral(text))}
    questions = SplitQuestions(table.column("id").to_pylist(), contexts, np.array(context, np.int64), astral)
    columns = {
        "ids": questions.ids,
        "questions": table.column("question").to_pylist(),
        "context": context,
        "contexts": contexts,
        "title": title,
        "titles": titles,
        "gold": _golds(table.column("answers").to_pylist(), questions),
        "slices": _slicings(results, split),
    }
    return columns, questions


def _numbered(texts: list[str]) -> tuple[list[str], list[int]]:
    """The distinct texts in order, and for every text its number among them."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return list(numbers), [numbers[text] for text in texts]


def _astral(text: str) -> np.ndarray:
    """The places of the characters that are two UTF-16 code units, int."""
    return np.flatnonzero(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4") > 0xFFFF)


def _golds(answers: list[dict[str, Any]], questions: SplitQuestions) -> list[list[int]]:
    golds = [
        sorted({(start, start + len(text)) for text, start in zip(gold["text"], gold["answer_start"], strict=True)})
        for gold in answers
    ]
    number = np.repeat(np.arange(len(golds)), [2 * len(spans) for spans in golds])
    ends = np.array([end for spans in golds for span in spans for end in span], np.int64)
    units = iter(questions.in_code_units(number, ends).tolist())
    pairs = [[(next(units), next(units)) for _ in spans] for spans in golds]
    return [[cell for start, stop in spans for cell in (start, stop - start)] for spans in pairs]


def _slicings(results: Results, split: str) -> list[dict[str, Any]]:
    """All slicings of a split's questions. The number of windows of a question may differ between models."""
    by_windows = {results.windows_id(answers): answers for answers in results.of_split(split)}
    if len(by_windows) > 1:
        by_windows.pop("", None)  # answers without windows
    found: dict[str, slices.Slicing] = {}
    for windows_id, answers in by_windows.items():
        for slicing in slices.read_slicings(answers.folder / "question_scores.parquet")[0]:
            own = slicing.kind == "windows" and len(by_windows) > 1
            found[f"windows of {windows_id}" if own else slicing.kind] = slicing
    return [{"kind": kind, "names": list(s.names), "place": s.place.tolist()} for kind, s in found.items()]


def answer_columns(answers: Answers, questions: SplitQuestions) -> dict[str, Any]:
    """The columns of a set of answers: lists with an entry for each question, but for those of the candidates.

    `kind`: number in KINDS; `f1`, `no_answer`: F1 and the probability of no answer, in thousandths; `null`: the null
    score in logits, None without candidates; `answered`: 1, or 0 for no answer; `count`: the number of candidates that
    the question has in the lists `start`, `length` (code units of the context) and `probability` (thousandths), best
    first. An answered question has its answer as the first candidate. Unknown probabilities and null scores are None.
    `texts` are answers that the context does not have, by the place of their candidate in the lists.

    Raises InputError if the files belong to different questions.
    """
    texts, differences = answers.texts(), answers.null_scores()
    nbest = _nbest(answers, questions)
    kind, f1 = _outcomes(answers, questions)
    bounds, start, stop = nbest["bounds"], nbest["start"], nbest["stop"]
    free = {
        first: texts[name]
        for name, (first, beyond) in zip(questions.ids, pairwise(bounds.tolist()), strict=True)
        if first < beyond and start[first] == question_scores.NOWHERE
    }
    size = np.minimum(np.diff(bounds), CANDIDATES)
    question = np.repeat(np.arange(len(size)), size)
    kept = np.arange(len(question)) - np.repeat(np.cumsum(size) - size, size) + bounds[:-1][question]
    starts, stops = (questions.in_code_units(question, ends[kept].clip(0)) for ends in (start, stop))
    known = ~np.isnan(nbest["null_probability"])
    return {
        "kind": kind,
        "f1": f1,
        "null": [
            round(differences[i], 2) if n and sure else None
            for i, n, sure in zip(questions.ids, size.tolist(), known.tolist(), strict=True)
        ],
        "no_answer": _thousandths(nbest["null_probability"]),
        "answered": [int(bool(texts[name])) for name in questions.ids],
        "count": size.tolist(),
        "start": starts.tolist(),
        "length": (stops - starts).tolist(),
        "probability": _thousandths(nbest["probability"][kept]),
        **({"texts": {np.searchsorted(kept, place).item(): text for place, text in free.items()}} if free else {}),
    }


def _nbest(answers: Answers, questions: SplitQuestions) -> dict[str, np.ndarray]:
    """`start`, `stop`, `probability` of all candidates; `bounds` (n + 1,) of each question's; `null_probability`."""
    file = answers.folder / "nbest.parquet"
    names = ("start", "stop", "probability")
    columns = ["id", "null_probability", *(f"candidates.list.element.{name}" for name in names)]
    with opened(file, "n-best lists") as lists:
        table = lists.read(columns)
        listed = pa.concat_arrays(table.column("candidates").chunks)
        found = {name: listed.values.field(name).to_numpy() for name in names}
        found["bounds"] = listed.offsets.to_numpy().astype(np.int64)
        found["null_probability"] = table.column("null_probability").to_numpy()
    if table.column("id").to_pylist() != questions.ids:
        raise _other(file, answers)
    return found


def _outcomes(answers: Answers, questions: SplitQuestions) -> tuple[list[int], list[int]]:
    """Each question's number in KINDS and its F1 in thousandths. A question that errors.parquet lacks is correct."""
    file = answers.folder / "errors.parquet"
    with opened(file, "wrong answers") as table:
        rows = table.read(["id", "kind", "f1"]).to_pydict()
    wrong = {name: (KINDS.index(kind), f1) for name, kind, f1 in zip(*rows.values(), strict=True)}
    if not wrong.keys() <= set(questions.ids):
        raise _other(file, answers)
    outcomes = [wrong.get(name, (KINDS.index(CORRECT), 1.0)) for name in questions.ids]
    return [kind for kind, _ in outcomes], _thousandths(np.array([f1 for _, f1 in outcomes]))


def _thousandths(values: Sequence[float] | np.ndarray) -> list[int | None]:
    return [None if math.isnan(value) else int(value) for value in np.rint(PERMILLE * np.asarray(values)).tolist()]


def _other(file: Any, answers: Answers) -> InputError:
    return InputError(f"{file}: its questions are not those of {answers.split}: remove the file and run again")
