"""Decoding: the walkthrough's argmax, an n-best loop as run_qa.py has it, and the stage `postprocess`."""

import collections
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

import data
from measure import Stage, model_folder, seconds
from qa.common.files import read_json
from qa.data import prepare_questions
from qa.decoding import postprocess
from qa.model.spans import Spans
from qa.windows import tokenize_and_label
from qa.windows.read_windows import arrow_table
from qa.windows.tokenizer import load_tokenizer

WIDTH, OVERLAP = 384, 128  # tokens of a row, and those that neighbours share
N_BEST, LONGEST = 20, 30  # candidates, and tokens of an answer
DECODING = {"method": "n_best", "n_best_size": N_BEST, "max_answer_length": LONGEST, "null_threshold": 0.0}
WINDOWS = {"max_length": WIDTH, "overlap": OVERLAP, "max_question_length": 64, "long_contexts": "windows"}
INPUTS = ("spans.parquet", "records.parquet")
OUTPUTS = ("answers", "null_scores", "nbest")
OURS = (*OUTPUTS, "no_answer_probabilities")
NAME, SCORE = itemgetter("example_id"), itemgetter("score")


@dataclass
class Predicted:
    """What the recipes decode: logits of whole rows, padding included, and their data sets, as they have them.

    `start`, `end`: float32 (W, WIDTH). `features`: W rows of input_ids, attention_mask, example_id and offset_mapping
    (None outside the context), and `examples`: the questions, as run_qa.py makes them. `samples`: the walkthrough's,
    the first row of each question, with every token's offsets; `first_rows`: which of the W rows those are.
    """

    start: np.ndarray
    end: np.ndarray
    features: Any
    examples: Any
    samples: Any
    first_rows: np.ndarray


def walkthrough(predicted: Predicted, target: Path) -> dict[str, str]:
    """The walkthrough's decoding: argmax of starts and of ends of a question's only row, kept if end > start."""
    answers = {}
    logits_of_rows = zip(predicted.start[predicted.first_rows], predicted.end[predicted.first_rows], strict=True)
    for row, (start, end) in enumerate(logits_of_rows):
        sample, text = predicted.samples[row], ""
        first, last = np.argmax(start), np.argmax(end)
        if last > first:
            text = sample["context"][sample["offset_mapping"][first][0] : sample["offset_mapping"][last][1]]
        answers[sample["id"]] = text
    target.write_text(json.dumps(answers))
    return answers


def n_best_loop(
    start: np.ndarray, end: np.ndarray, features: Iterable[Any], examples: Iterable[Any], folder: Path
) -> dict[str, str]:
    """The n-best computation of run_qa.py by loops over questions, rows, starts and ends, with the null rule.

    `features` and `examples` are data sets, or lists of the same rows.
    """
    rows_of = collections.defaultdict(list)
    for row, name in enumerate(features["example_id"] if hasattr(features, "features") else map(NAME, features)):
        rows_of[name].append(row)
    answers, lists, differences = {}, {}, {}
    for example in examples:
        name = example["id"]
        null, found = _candidates_of(start, end, features, rows_of[name])
        found = sorted([*found, null], reverse=True, key=SCORE)[:N_BEST]
        if null not in found:
            found.append(null)
        for span in found:
            a, b = span.pop("offsets")
            span["text"] = example["context"][a:b]
        scores = np.array(list(map(SCORE, found)))
        weights = np.exp(scores - scores.max())
        for span, share in zip(found, weights / weights.sum(), strict=True):
            span["probability"] = share
        best = next((span for span in found if span["text"]), {"text": "", "score": -1e6})
        differences[name] = float(null["score"] - best["score"])
        answers[name] = "" if differences[name] > 0 else best["text"]
        lists[name] = [{key: text if key == "text" else float(text) for key, text in span.items()} for span in found]
    for output, values in zip(OUTPUTS, (answers, differences, lists), strict=True):
        Path(folder, f"loop-{output}").write_text(json.dumps(values, indent=4) + "\n")
    return answers


def _candidates_of(start: np.ndarray, end: np.ndarray, features: Any, rows: list[int]) -> tuple[Any, list[Any]]:
    """The null span of a question, of its row with the least null score, and all spans of its rows that may answer."""
    null, found = None, []
    for row in rows:
        starts, ends, offsets = start[row], end[row], features[row]["offset_mapping"]
        most_context = features[row].get("token_is_max_context")  # asked for anew, as there; rows seldom have it
        if null is None or starts[0] + ends[0] < null["score"]:
            null = {"offsets": (0, 0), "score": starts[0] + ends[0], "start_logit": starts[0], "end_logit": ends[0]}
        best_ends = np.argsort(ends)[: -N_BEST - 1 : -1].tolist()
        for first in np.argsort(starts)[: -N_BEST - 1 : -1].tolist():
            for last in best_ends:
                if first >= len(offsets) or last >= len(offsets):
                    continue
                if offsets[first] is None or len(offsets[first]) < 2 or offsets[last] is None or len(offsets[last]) < 2:
                    continue
                if last < first or last - first + 1 > LONGEST:
                    continue
                if most_context is not None and not most_context.get(str(first), False):
                    continue
                found.append(
                    {
                        "offsets": (offsets[first][0], offsets[last][1]),
                        "score": starts[first] + ends[last],
                        "start_logit": starts[first],
                        "end_logit": ends[last],
                    }
                )
    return null, found


def ours(folder: Path) -> dict[str, str]:
    """The stage `postprocess`, from the files that it reads to the files that it writes."""
    outputs = {name: str(folder / name) for name in OURS}
    spans, records = (folder / name for name in INPUTS)
    postprocess.postprocess([spans], records, DECODING, outputs)
    return read_json(outputs["answers"])


def moved(folder: Path, outputs: list[bytes]) -> None:
    """Read the bytes that the stage reads, and write those that it writes."""
    for path in map(folder.joinpath, INPUTS):
        for file in [path] if path.is_file() else path.glob("*.arrow"):
            file.read_bytes()
    for name, content in zip(OURS, outputs, strict=True):
        Path(folder, f"moved-{name}").write_bytes(content)


def prepared(folder: Path, contexts: int, questions: int, seed: int = 0) -> Predicted:
    """Write records, windows and spans of made-up questions and logits; return the same for the other recipes."""
    (folder / "q.json").write_text(json.dumps(data.squad_like(contexts, questions)))
    prepare_questions.convert([folder / "q.json"], folder / "records.parquet")
    tokenize_and_label.tokenize(
        folder / "records.parquet", load_tokenizer(model_folder()), {**WINDOWS, "labels": "exact"}, folder / "windows"
    )
    table = arrow_table(folder / "windows")
    first, stop = (table.column(name).to_numpy() for name in ("context_start", "context_stop"))
    start, end = logits(np.random.default_rng(seed), first, stop)
    spans_of(start, end, first, stop).locate(table).write(folder / "spans.parquet")
    asked = parquet.read_table(folder / "records.parquet", columns=["id", "context"])
    names = asked.column("id").take(table.column("record"))
    token = np.arange(WIDTH)
    outside = (token < first[:, None]) | (token >= stop[:, None])
    columns = {
        "input_ids": _lists(_padded(table, "input_ids")),
        "attention_mask": _lists((token < np.diff(_bounds(table))[:, None]).astype(np.int8)),
    }
    every = np.stack([_padded(table, name) for name in ("offset_start", "offset_end")], axis=-1)
    rows = np.flatnonzero(table.column("window").to_numpy() == 0)
    samples = pa.table(
        {"id": asked.column("id"), "context": asked.column("context")}
        | {name: column.take(rows) for name, column in (columns | {"offset_mapping": _pairs(every)}).items()}
    )
    features = pa.table(columns | {"example_id": names, "offset_mapping": _pairs(every, outside)})
    return Predicted(start, end, *map(datasets.Dataset, (features, asked, samples)), rows)


def _bounds(table: Any) -> np.ndarray:
    return table.column("offset_start").combine_chunks().offsets.to_numpy()


def _padded(table: Any, name: str) -> np.ndarray:
    """A column of lists as a matrix of WIDTH columns, zeros where the lists are shorter: int32 (W, WIDTH)."""
    bounds, matrix = _bounds(table), np.zeros((len(table), WIDTH), np.int32)
    row = np.repeat(np.arange(len(table)), np.diff(bounds))
    matrix[row, np.arange(len(row)) - bounds[row]] = table.column(name).combine_chunks().flatten().to_numpy()
    return matrix


def _lists(matrix: np.ndarray) -> Any:
    """A matrix as a column of lists."""
    bounds = np.arange(len(matrix) + 1, dtype=np.int32) * WIDTH
    return pa.ListArray.from_arrays(bounds, pa.array(matrix.reshape(-1)))


def _pairs(offsets: np.ndarray, outside: np.ndarray | None = None) -> Any:
    """Offsets (W, WIDTH, 2) as a column of lists of pairs, None for those `outside`."""
    bounds = np.arange(offsets[..., 0].size + 1, dtype=np.int32) * 2
    mask = None if outside is None else pa.array(outside.reshape(-1))
    pairs = pa.ListArray.from_arrays(bounds, pa.array(offsets.reshape(-1)), mask=mask)
    return pa.ListArray.from_arrays(np.arange(len(offsets) + 1, dtype=np.int32) * WIDTH, pairs)


def logits(rng: np.random.Generator, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits as a fine-tuned model gives them, float32 (W, WIDTH): low, with a hill about one answer.

    `first` and `stop` bound each row's context. Half of the rows favour the null position.
    """
    count = len(first)
    start, end = rng.normal(-6, 1.5, (2, count, WIDTH)).astype(np.float32)
    token = np.arange(WIDTH)
    answer, null = rng.integers(first, stop), rng.choice([-2, 14], count)
    for scores, place in ((start, answer), (end, np.minimum(answer + rng.integers(0, 5, count), stop - 1))):
        scores += 9 * np.exp(-0.5 * ((token - place[:, None]) / 2) ** 2).astype(np.float32)
        scores[(token < first[:, None]) | (token >= stop[:, None])] -= 12
        scores[:, 0] += 12 + null
    return start, end


def spans_of(start: np.ndarray, end: np.ndarray, first: np.ndarray, stop: np.ndarray) -> Spans:
    """What prediction keeps of such logits: the best starts and ends of each context."""
    spans = Spans.empty(len(start), N_BEST)
    token = np.arange(WIDTH)
    inside = (token >= first[:, None]) & (token < stop[:, None])
    for name, scores in (("start", start), ("end", end)):
        within = np.where(inside, scores, -np.inf)
        best = np.argsort(-within, axis=1, kind="stable")[:, :N_BEST]
        kept = np.take_along_axis(within, best, axis=1)
        getattr(spans, f"{name}_index")[:] = np.where(np.isfinite(kept), best, -1)
        getattr(spans, f"{name}_logit")[:] = kept
        getattr(spans, f"row_{name}_index")[:] = scores.argmax(axis=1)
        getattr(spans, f"row_{name}_logit")[:] = scores.max(axis=1)
    spans.null_score[:] = start[:, 0] + end[:, 0]
    return spans


def stages(contexts: int = data.CONTEXTS, questions: int = data.QUESTIONS, rounds: int = 3) -> list[Stage]:
    """One line: postprocess. The recipes have their logits and offsets in memory, ours reads its files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        predicted = prepared(folder, contexts, questions)
        published = (predicted.start, predicted.end, predicted.features, predicted.examples, folder)
        in_memory = (predicted.start, predicted.end, list(predicted.features), list(predicted.examples), folder)
        found, expected = ours(folder), n_best_loop(*in_memory)
        agreeing = sum(found[key] == expected[key] for key in expected)
        outputs = [Path(folder, each).read_bytes() for each in OURS]
        taken = seconds(
            {
                "walkthrough": lambda: walkthrough(predicted, folder / "plain.json"),
                "run_qa": lambda: n_best_loop(*published),
                "run_qa in memory": lambda: n_best_loop(*in_memory),
                "ours": lambda: ours(folder),
                "floor": lambda: moved(folder, outputs),
            },
            rounds,
        )
    megabytes = sum(map(len, outputs)) / 1e6
    return [
        Stage(
            "postprocess",
            f"{len(predicted.start):,} windows of {questions:,} questions, {N_BEST} candidates; ours from the spans "
            "file, the others from logits in memory (run_qa's loop over lists instead of its data sets: "
            f"{taken['run_qa in memory']:.2f} s); answers equal to run_qa's for {agreeing:,} of {questions:,}",
            "s",
            taken["walkthrough"],
            taken["run_qa"],
            taken["ours"],
            taken["floor"],
            f"its inputs read and its outputs, {megabytes:.0f} MB, written as bytes that are there already",
        )
    ]
