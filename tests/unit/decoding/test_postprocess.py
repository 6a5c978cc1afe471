"""Decoding against a plain loop over every span, and the rules around null."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from qa.common.errors import InputError
from qa.common.files import read_json
from qa.data.prepare_questions import convert
from qa.decoding.postprocess import n_best, postprocess, walkthrough
from qa.model.spans import Spans
from qa.windows.read_windows import TokenOffsets, arrow_table
from qa.windows.tokenize_and_label import tokenize


def made_rows(rng, records, longest=9, levels=None):
    """Windows with random offsets, some tokens without width, and random candidates; logits of few `levels` tie."""
    record, lengths, starts, stops = [], [], [], []
    for number in range(records):
        for part in range(rng.integers(1, 4)):
            length = int(rng.integers(2, longest))
            begins = np.arange(length) * 3 + part * 2
            record.append(number)
            lengths.append(length)
            starts.append(begins)
            stops.append(begins + rng.integers(0, 3, length))
    table = pa.table({"record": record, "offset_start": starts, "offset_end": stops})
    spans = Spans.empty(len(record), longest)
    spans.null_score[:] = rng.normal(size=len(record))
    for number, length in enumerate(lengths):
        logits = rng.normal(size=(2, length)) if levels is None else rng.integers(0, levels, (2, length))
        logits = logits.astype(np.float32)
        for name, values in zip(("start", "end"), logits, strict=True):
            order = np.argsort(-values, kind="stable")
            getattr(spans, f"{name}_index")[number, :length] = order
            getattr(spans, f"{name}_logit")[number, :length] = values[order]
    return TokenOffsets.of(table), spans.locate(table)


def plain_n_best(rows, spans, record, size, longest):
    """Every span of every window of a record, by loops."""
    best = {}
    for row in np.flatnonzero(rows.record == record):
        starts = dict(zip(spans.start_index[row].tolist(), spans.start_logit[row].tolist(), strict=True))
        ends = dict(zip(spans.end_index[row].tolist(), spans.end_logit[row].tolist(), strict=True))
        for start in starts.keys() - {-1}:
            for end in ends.keys() - {-1}:
                a = int(rows.offset_start[rows.first_token[row] + start])
                b = int(rows.offset_end[rows.first_token[row] + end])
                if start <= end < start + longest and a < b:
                    best[a, b] = max(best.get((a, b), -math.inf), starts[start] + ends[end])
    return sorted(((score, span) for span, score in best.items()), key=lambda item: (-item[0], item[1]))[:size]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 30), longest=st.integers(1, 8))
def test_the_n_best_are_those_of_a_loop_over_every_span(seed, size, longest):
    rng = np.random.default_rng(seed)
    rows, spans = made_rows(rng, records=5)
    found = n_best(spans, size, longest)
    for record in range(5):
        mine = found.record == record
        expected = plain_n_best(rows, spans, record, size, longest)
        assert list(zip(found.start[mine].tolist(), found.stop[mine].tolist(), strict=True)) == [s for _, s in expected]
        assert found.score[mine] == pytest.approx([score for score, _ in expected])
        assert found.null_score[record] == spans.null_score[rows.record == record].min()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 30), longest=st.integers(1, 8), levels=st.integers(1, 3))
def test_among_equal_spans_of_a_window_those_of_better_starts_then_ends_come_in(seed, size, longest, levels):
    rows, spans = made_rows(np.random.default_rng(seed), records=4, levels=levels)
    found = n_best(spans, size, longest)
    for record in range(4):
        best = {}
        for row in np.flatnonzero(rows.record == record):
            listed = []
            for place, (start, start_logit) in enumerate(
                zip(spans.start_index[row], spans.start_logit[row], strict=True)
            ):
                for rank, (end, end_logit) in enumerate(zip(spans.end_index[row], spans.end_logit[row], strict=True)):
                    if 0 <= start <= end < start + longest:
                        a = rows.offset_start[rows.first_token[row] + start]
                        b = rows.offset_end[rows.first_token[row] + end]
                        if a < b:
                            listed.append((-float(start_logit + end_logit), place, rank, int(a), int(b)))
            for score, _, _, a, b in sorted(listed)[:size]:
                best[a, b] = min(best.get((a, b), math.inf), score)
        expected = sorted((score, *span) for span, score in best.items())[:size]
        mine = found.record == record
        columns = (-found.score[mine], found.start[mine], found.stop[mine])
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


def test_logits_that_are_no_numbers_crowd_nothing_out():
    _, spans = made_rows(np.random.default_rng(4), records=1)
    whole = n_best(spans, 40, 8)
    spans.start_logit[0, 0] = np.nan
    rest = n_best(spans, 3, 8)
    assert np.isfinite(rest.score).all() and len(rest.score) == 3 and set(rest.score) <= set(whole.score)


def test_parts_of_the_windows_give_what_all_at_once_gives(monkeypatch):
    _, spans = made_rows(np.random.default_rng(3), records=40)
    whole = n_best(spans, 5, 6)
    monkeypatch.setattr("qa.decoding.postprocess.PAIRS", 7 * spans.candidates**2)
    parts = n_best(spans, 5, 6)
    assert all((getattr(whole, name) == getattr(parts, name)).all() for name in ("record", "start", "stop", "score"))


def test_one_token_answers_are_found_by_n_best_and_lost_by_the_walkthrough():
    table = pa.table({"record": [0], "offset_start": [[0, 0, 5]], "offset_end": [[0, 4, 9]]})
    spans = Spans.empty(1, 1)
    spans.put(np.array([0]), {"start_index": [[1]], "end_index": [[1]], "start_logit": [[2.0]], "end_logit": [[2.0]]})
    spans.put(np.array([0]), {"row_start_index": 1, "row_end_index": 1, "null_score": 0.0})
    assert n_best(spans.locate(table), 5, 5).stop.tolist() == [4]
    assert len(walkthrough(spans).record) == 0


def test_the_walkthrough_reads_the_first_window_only():
    rows, spans = made_rows(np.random.default_rng(5), records=20)
    spans.row_start_index[:], spans.row_end_index[:] = 0, 1
    found = walkthrough(spans)
    assert found.record.tolist() == list(range(20))
    assert found.null_score.tolist() == spans.null_score[np.diff(rows.record, prepend=-1) > 0].astype(float).tolist()


def chain(tmp_path):
    source = tmp_path / "q.json"
    source.write_text(json.dumps(tiny.squad(14)))
    convert([source], tmp_path / "records.parquet")
    tokenize(tmp_path / "records.parquet", tiny.word_piece(), tiny.SHORT_WINDOWS, tmp_path / "windows")
    return {name: str(tmp_path / f"{name}.json") for name in tiny.OUTPUTS}


def test_files_hold_every_question_in_order_and_texts_of_their_contexts(tmp_path):
    outputs, rng = chain(tmp_path), np.random.default_rng(1)
    table = arrow_table(tmp_path / "windows")
    windows = len(table)
    spans = Spans.empty(windows, 6)
    spans.start_index[:], spans.end_index[:] = rng.integers(12, 20, (windows, 6)), rng.integers(14, 24, (windows, 6))
    spans.start_logit[:], spans.end_logit[:] = rng.normal(size=(2, windows, 6))
    spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
    spans.locate(table).write(tmp_path / "spans.parquet")
    decoding = {"method": "n_best", "n_best_size": 4, "max_answer_length": 9, "null_threshold": 0.0}
    postprocess([tmp_path / "spans.parquet"], tmp_path / "records.parquet", decoding, outputs)
    records = pd.read_parquet(tmp_path / "records.parquet").set_index("id")
    answers, null_scores = (read_json(outputs[name]) for name in ("answers", "null_scores"))
    lines = parquet.read_table(outputs["nbest"]).to_pylist()
    asked = ["title", "question", "context"]
    assert [[line[name] for name in asked] for line in lines] == records[asked].to_numpy().tolist()
    assert [[gold["text"] for gold in line["gold"]] for line in lines] == [
        list(each["text"]) for each in records.answers
    ]
    assert [line["windows"] for line in lines] == np.bincount(table["record"].to_numpy()).tolist()
    assert list(answers) == list(null_scores) == [line["id"] for line in lines] == list(records.index)
    assert any(answers.values())
    for line in lines:
        for found in line["candidates"]:
            assert found["text"] == records.context[line["id"]][found["start"] : found["stop"]] != ""
        assert sum(found["probability"] for found in line["candidates"]) + line["null_probability"] == pytest.approx(1)


def test_spans_of_other_questions_are_refused(tmp_path):
    outputs = chain(tmp_path)
    spans = Spans.empty(3, 2)
    spans.record[:] = 0, 0, 1
    spans.write(tmp_path / "spans.parquet")
    with pytest.raises(InputError, match=r"spans\.parquet: spans of 2 questions, but .*records\.parquet has 14"):
        postprocess([tmp_path / "spans.parquet"], tmp_path / "records.parquet", {"method": "walkthrough"}, outputs)


@pytest.mark.parametrize(("longest", "count"), [(3, 2), (4, 1), (9, 0)])
def test_gold_answers_longer_than_an_answer_may_be_are_counted(longest, count, tmp_path, caplog):
    outputs = chain(tmp_path)
    table = arrow_table(tmp_path / "windows")
    spans = Spans.empty(len(table), 2)
    spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
    for record, tokens in ((2, 4), (7, 5)):
        spans.label_tokens[table["record"].to_numpy() == record] = tokens
    spans.locate(table).write(tmp_path / "spans.parquet")
    decoding = {"method": "n_best", "n_best_size": 4, "max_answer_length": longest, "null_threshold": 0.0}
    postprocess([tmp_path / "spans.parquet"], tmp_path / "records.parquet", decoding, outputs)
    warned = f"{count} questions have a gold answer of more than {longest} tokens (max_answer_length)"
    assert (warned in caplog.text) == bool(count) == ("gold answer" in caplog.text)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_null_scores_that_are_no_numbers_are_refused_before_anything_is_written(value, tmp_path):
    outputs = chain(tmp_path)
    table = arrow_table(tmp_path / "windows")
    spans = Spans.empty(len(table), 2)
    spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
    spans.null_score[3] = value
    spans.locate(table).write(tmp_path / "spans.parquet")
    decoding = {"method": "n_best", "n_best_size": 4, "max_answer_length": 9, "null_threshold": 0.0}
    paths = [tmp_path / "spans.parquet"], tmp_path / "records.parquet"
    with pytest.raises(InputError, match=r"spans\.parquet: scores that are not finite"):
        postprocess(*paths, decoding, outputs)
    assert not any(Path(path).exists() for path in outputs.values())


def test_spans_come_back_as_they_were_written(tmp_path):
    _, spans = made_rows(np.random.default_rng(2), records=6)
    spans.write(tmp_path / "s.parquet")
    again = Spans.read(tmp_path / "s.parquet")
    for name, values in vars(spans).items():
        assert (getattr(again, name) == values).all() and getattr(again, name).dtype == values.dtype


def test_broken_spans_are_named(tmp_path):
    (tmp_path / "s.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"s\.parquet: spans cannot be read"):
        Spans.read(tmp_path / "s.parquet")
