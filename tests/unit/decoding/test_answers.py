"""The rules around null, and what the files of answers say, against a softmax of plain Python."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from qa.common.errors import InputError
from qa.decoding import nbest, probabilities
from qa.decoding.answers import Candidates, decide
from qa.decoding.nbest import read_nbest
from qa.decoding.postprocess import write_answers

TEXTS = ("alpha", "beta", "gamma")


def records_of(ids, contexts, path=None):
    """A table of unanswerable questions as records files have it, written to `path` if there is one."""
    texts, starts = pa.list_(pa.string()), pa.list_(pa.int32())
    none = [{"text": [], "answer_start": []}] * len(ids)
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "title": pa.array(["t"] * len(ids), pa.string()).dictionary_encode(),
            "question": pa.array(["?"] * len(ids), pa.string()),
            "context": pa.array(contexts, pa.string()).dictionary_encode(),
            "answers": pa.array(none, pa.struct([("text", texts), ("answer_start", starts)])),
        }
    )
    if path:
        parquet.write_table(table, path)
    return table


def written(found, threshold, ids, contexts):
    """Answers and rows of the n-best table of the last questions, and the decision on all."""
    decision = decide(found, threshold)
    part = slice(len(found.null_score) - len(ids), len(found.null_score))
    (batch,) = records_of(ids, contexts).to_batches()
    texts, places = nbest.texts_of(found, decision, part, batch.column("context"))
    rows = nbest.table(found, decision, part, batch, texts).to_pylist()
    kept = zip(places, decision.answered[part].tolist(), strict=True)
    return [texts[place] if answered else "" for place, answered in kept], rows, decision


def results(scores, null, threshold, texts=TEXTS):
    """(answer, null score minus best, the row of the n-best table) of one question whose context is of `texts`."""
    context = " ".join(texts)
    starts = [context.index(text) for text in texts[: len(scores)]]
    stops = [start + len(text) for start, text in zip(starts, texts, strict=False)]
    found = Candidates(
        np.zeros(len(scores), np.int64), np.array(starts, int), np.array(stops, int), np.array(scores, float),
        np.array([null]), np.ones(1, int),
    )  # fmt: skip
    (text,), (row,), decision = written(found, threshold, ["q"], [context])
    return text, decision.difference[0], row


@pytest.mark.parametrize(
    ("null", "threshold", "text"),
    [
        (2.0, 0.0, "alpha"),
        (3.0, 0.0, "alpha"),
        (3.1, 0.0, ""),
        (3.1, 0.5, "alpha"),
        (1.0, -3.0, ""),
        (9.0, math.inf, "alpha"),
    ],
)
def test_there_is_no_answer_where_null_less_best_exceeds_the_threshold(null, threshold, text):
    answer, difference, _ = results([3.0, 1.0], null, threshold)
    assert answer == text and difference == pytest.approx(null - 3.0)


def test_probabilities_are_a_softmax_over_candidates_and_null():
    _, _, line = results([3.0, 1.0], 2.0, 0.0)
    weights = [math.exp(x) for x in (3.0, 1.0, 2.0)]
    assert [c["probability"] for c in line["candidates"]] == pytest.approx([w / sum(weights) for w in weights[:2]])
    assert line["null_probability"] == pytest.approx(weights[2] / sum(weights))


def test_probabilities_of_great_scores_neither_overflow_nor_vanish():
    _, _, line = results([3000.0, 2999.0], -4000.0, 0.0)
    assert [c["probability"] for c in line["candidates"]] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)])
    _, _, line = results([], -3e6, 0.0)
    assert line["null_probability"] == 1.0


@pytest.mark.parametrize("threshold", [0.0, math.inf])
def test_a_question_without_any_span_is_answered_by_silence(threshold):
    answer, difference, line = results([], 2.0, threshold)
    assert (answer, line["candidates"], line["null_probability"]) == ("", [], 1.0)
    json.dumps(float(difference), allow_nan=False)


SCORES = st.floats(-50, 50) | st.integers(-3, 3).map(float) | st.sampled_from([-0.0, 1e-7, 2.5e-300, 123456789012.0])
NULLS = st.integers(-3, 3).map(float) | st.floats(-50, 50)


@st.composite
def questions(draw):
    """(context, [(start, stop, score)] best first, null score) of some questions, some of them without candidates."""
    made = []
    for _ in range(draw(st.integers(1, 5))):
        context = draw(
            st.text(min_size=1, max_size=12) | st.sampled_from(['a "b"', "tab\t", "back\\slash", "é—東", "plain"])
        )
        spans = draw(
            st.lists(st.tuples(st.integers(0, len(context)), st.integers(0, len(context)), SCORES), max_size=4)
        )
        made.append((context, sorted(spans, key=lambda span: -span[2]), draw(NULLS)))
    return made


@given(questions(), st.integers(0, 5), st.floats(-5, 5))
def test_the_rows_are_those_of_each_question_alone(made, first, threshold):
    made = [("", [], 0.0)] * first + made  # questions of an earlier batch
    flat = [(record, *span) for record, (_, spans, _) in enumerate(made) for span in spans]
    columns = list(zip(*flat, strict=True)) or [()] * 4
    kinds = (np.int64, np.int64, np.int64, np.float64)
    found = Candidates(
        *(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)),
        np.array([null for _, _, null in made]),
        np.ones(len(made), int),
    )
    contexts, ids = [context for context, _, _ in made[first:]], [f'q"{n}' for n in range(len(made) - first)]
    texts, rows, _ = written(found, threshold, ids, contexts)
    for (context, spans, null), name, row, answer in zip(made[first:], ids, rows, texts, strict=True):
        top = max([null, *(score for _, _, score in spans)])
        weights = [math.exp(score - top) for _, _, score in spans] + [math.exp(null - top)]
        assert [row.pop(name) for name in ("title", "question", "context", "gold", "windows")] == [
            *("t", "?", context, [], 1)
        ]
        shares = [candidate.pop("probability") for candidate in row["candidates"]] + [row.pop("null_probability")]
        assert shares == pytest.approx([weight / math.fsum(weights) for weight in weights], rel=1e-12)
        expected = [{"text": context[a:b], "start": a, "stop": b, "score": score} for a, b, score in spans]
        assert row == {"id": name, "null_score": null, "candidates": expected}
        kept = spans and null - spans[0][2] <= threshold
        assert answer == (context[spans[0][0] : spans[0][1]] if kept else "")


def test_the_best_span_of_each_question_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(nbest, "BATCH", 3)
    contexts = [f"mill {number} — Söhl" for number in range(8)]
    records_of([f"q{number}" for number in range(8)], contexts, tmp_path / "records.parquet")
    record = np.array([0, 0, 1, 4, 4, 7])
    starts, stops = np.array([0, 5, 5, 7, 0, 0]), np.array([4, 6, 6, 13, 4, 13])
    found = Candidates(record, starts, stops, np.array([2.0, 1, 1, 3, 2, 1]), np.zeros(8), np.ones(8, int))
    outputs, decision = {name: str(tmp_path / name) for name in tiny.OUTPUTS}, decide(found, -100.0)
    write_answers(found, decision, np.linspace(0, 0.7, 8), tmp_path / "records.parquet", outputs)
    best = {"q0": "mill", "q1": "1", "q4": "— Söhl", "q7": "mill 7 — Söhl"}
    assert read_nbest(outputs["nbest"]).best == {f"q{number}": best.get(f"q{number}", "") for number in range(8)}
    assert set(json.loads((tmp_path / "answers").read_text()).values()) == {""}
    chances = json.loads((tmp_path / "no_answer_probabilities").read_text())
    assert chances == {f"q{number}": pytest.approx(number / 10) for number in range(8)}


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_n_best_lists_that_cannot_be_read_are_named(damage, tmp_path):
    file = tmp_path / "nbest.parquet"
    if damage == "cut":
        file.write_bytes(b"PAR1")
    elif damage == "other":
        parquet.write_table(pa.table({"id": ["q"]}), file)
    with pytest.raises(InputError, match=r"nbest\.parquet: n-best lists cannot be read .*run again"):
        read_nbest(file)


def test_the_certainty_of_many_questions_is_that_of_each(monkeypatch):
    draw, n = np.random.default_rng(0), 11
    sizes = draw.integers(0, 4, n)
    bounds, answered = np.r_[0, np.cumsum(sizes)], (draw.random(n) < 0.7) & (sizes > 0)
    score, null = draw.normal(size=bounds[-1]), draw.normal(size=n)
    lists = {"bounds": bounds, "score": score, "null_score": null, "probability": score, "null_probability": null}
    monkeypatch.setattr(probabilities, "BLOCK", 4)
    sure = probabilities.certainty(SimpleNamespace(**lists), answered)
    for number, (first, stop) in enumerate(itertools.pairwise(bounds)):
        outcomes = [*score[first:stop], null[number]]
        chosen = outcomes[0 if answered[number] else -1]
        assert sure["calibrated"][number] == chosen
        assert sure["uncalibrated"][number] == pytest.approx(math.exp(chosen) / sum(map(math.exp, outcomes)))
