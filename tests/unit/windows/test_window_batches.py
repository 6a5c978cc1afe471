"""Windows of many records at once, against rows made one by one in plain Python."""

import json
import random
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from plain_windows import SETTINGS, TOKENIZERS, as_lists, blank, families, plain_rows, texts
from qa.common.errors import InputError
from qa.data.prepare_questions import convert
from qa.windows import encoder
from qa.windows import tokenizer as encoding
from qa.windows.tokenize_and_label import WindowBuilder, tokenize


@st.composite
def record_lists(draw: Any) -> list[dict[str, Any]]:
    contexts = draw(st.lists(texts(60, shortest=0), min_size=1, max_size=4))
    records = []
    for number in range(draw(st.integers(1, 9))):
        context, spans = draw(st.sampled_from(contexts)), []
        for _ in range(draw(st.integers(0, 3)) if context else 0):
            start = draw(st.integers(0, len(context) - 1))
            spans.append((start, draw(st.integers(start + 1, min(len(context), start + 40)))))
        answers = {"text": [context[a:b] for a, b in spans], "answer_start": [a for a, _ in spans]}
        question = draw(st.sampled_from(["", " "])) + draw(texts(6))
        records.append({"id": f"q{number}", "question": question, "context": context, "answers": answers})
    return records


@families
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    records=record_lists(),
    width=st.integers(24, 60),
    overlap=st.integers(0, 7),
    longest=st.integers(1, 12),
    long_contexts=st.sampled_from(["windows", "truncate"]),
    labels=st.sampled_from([{"labels": "exact"}, {"labels": "exact", "answers": "all"}, {"labels": "walkthrough"}]),
    at_once=st.integers(1, 9),
    cached=st.sampled_from([0, 100, 10_000]),
    tokens=st.sampled_from([1, 100, 10_000]),
)
def test_rows_made_at_once_are_those_made_one_by_one(
    family, records, width, overlap, longest, long_contexts, labels, at_once, cached, tokens
):
    chosen = {"max_length": width, "overlap": overlap, "max_question_length": longest}
    chosen |= {"long_contexts": long_contexts, **labels}
    builder = WindowBuilder(TOKENIZERS[family], chosen)
    builder.encoder = encoder.Encoder(TOKENIZERS[family], builder.encoder.trim, cached)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qa.windows.tokenize_and_label.BATCH_TOKENS", tokens)
        found = as_lists(tiny.rows(builder, records, at_once))
    expected = plain_rows(TOKENIZERS[family], chosen, records)
    assert found == expected
    labelled = {row["id"] for row in expected if row["start_positions"] or row["end_positions"]}
    answerable = [record["id"] for record in records if record["answers"]["text"]]
    assert builder.counts.unlabelled == [name for name in answerable if name not in labelled]
    assert (builder.counts.questions, builder.counts.windows) == (len(records), len(expected))


def shuffled_records(folder, number: int = 60) -> tuple[Any, list[dict[str, Any]]]:
    """A records file with three questions a context, far apart."""
    data = tiny.squad(number)
    for paragraph in data["data"][0]["paragraphs"]:
        (question,) = paragraph["qas"]
        paragraph["qas"] = [{**question, "id": f"{question['id']}-{copy}"} for copy in range(3)]
    (folder / "q.json").write_text(json.dumps(data))
    convert([folder / "q.json"], folder / "ordered.parquet")
    order = list(range(3 * number))
    random.Random(0).shuffle(order)
    table = parquet.read_table(folder / "ordered.parquet").take(order)
    parquet.write_table(table, folder / "records.parquet")
    return folder / "records.parquet", table.to_pylist()


@families
def test_the_stored_windows_are_the_plain_ones_whatever_the_batches(family, tmp_path, monkeypatch):
    path, records = shuffled_records(tmp_path)
    for batch in (7, 1000):
        monkeypatch.setattr(encoder, "BATCH_RECORDS", batch)
        tokenize(path, TOKENIZERS[family], SETTINGS, tmp_path / "windows")
        stored = datasets.load_from_disk(tmp_path / "windows")
        assert isinstance(stored, datasets.Dataset) and stored.cache_files
        assert stored.to_list() == plain_rows(TOKENIZERS[family], SETTINGS, records)


def test_each_distinct_context_is_encoded_once(tmp_path, monkeypatch):
    path, records = shuffled_records(tmp_path)
    seen: list[str] = []

    def noted(tokenizer, texts):
        seen.extend(texts)
        return encoding.encode_only(tokenizer, texts)

    monkeypatch.setattr(encoder, "encode_only", noted)
    monkeypatch.setattr(encoder, "BATCH_RECORDS", 7)
    tokenize(path, TOKENIZERS["WordPiece"], SETTINGS, tmp_path / "windows")
    contexts = [text for text in seen if not text.endswith("?")]
    assert sorted(contexts) == sorted({record["context"] for record in records})
    assert len(seen) == len(contexts) + len(records)


def test_two_folders_of_windows_are_never_taken_for_one_by_their_fingerprints(tmp_path):
    path, _ = shuffled_records(tmp_path, 6)
    for overlap in (3, 6):
        tokenize(path, TOKENIZERS["WordPiece"], {**SETTINGS, "overlap": overlap}, tmp_path / str(overlap))
    first, second = (datasets.load_from_disk(tmp_path / name)._fingerprint for name in ("3", "6"))
    assert first != second


def test_a_question_without_room_leaves_no_files_behind(tmp_path):
    path, _ = shuffled_records(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"id 'q-\d+-\d'.*leaves \d of 16"):
        tokenize(path, TOKENIZERS["WordPiece"], {**SETTINGS, "max_length": 16}, tmp_path / "windows")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("labels", ["exact", "walkthrough"])
def test_a_question_that_leaves_just_the_overlap_is_refused_and_one_token_more_is_enough(labels):
    record = {"id": "q", "question": "a " * 9, "context": "a " * 20, "answers": {"text": [], "answer_start": []}}
    chosen = {**SETTINGS, "labels": labels, "max_length": 12 + 7}
    assert as_lists(tiny.rows(WindowBuilder(TOKENIZERS["WordPiece"], chosen), [record])) == plain_rows(
        TOKENIZERS["WordPiece"], chosen, [record]
    )
    with pytest.raises(InputError, match="9 tokens, which leaves 6 of 18 for the context, with an overlap of 6"):
        list(tiny.rows(WindowBuilder(TOKENIZERS["WordPiece"], {**chosen, "max_length": 18}), [record]))


@given(texts=st.lists(st.text(" \n\u3000\u200fab", max_size=9), max_size=4), data=st.data())
def test_white_space_and_invisible_marks_at_the_ends_of_any_span_are_left_out(texts, data):
    spans, expected, bounds = [], [], [0]
    for text in texts:
        pairs = st.lists(st.tuples(*[st.integers(0, len(text))] * 2).map(sorted), max_size=5)
        spans += (here := data.draw(pairs))
        bounds.append(len(spans))
        for start, stop in here:
            inside = [place for place in range(start, stop) if not blank(text[place])]
            nowhere = (stop, stop) if start < stop else (start, start)
            expected.append((inside[0], inside[-1] + 1) if inside else nowhere)
    start, stop = np.array(spans, np.int32).reshape(-1, 2).T
    first = np.repeat(np.cumsum([0, *(len(text) + 1 for text in texts)])[:-1], np.diff(bounds)).astype(np.int64)
    points = np.array([ord(letter) for letter in "\n".join(texts)], np.uint32)
    found = [side - first for side in encoding.trimmed(points, start + first, stop + first)]
    assert list(zip(*(side.tolist() for side in found), strict=True)) == expected


@families
def test_a_tokenizers_own_truncation_and_padding_change_nothing_and_stay(family):
    tokenizer, texts = tiny.FAMILIES[family](), ["the bridge of 1412", "", "a"]
    plain = encoding.tokens_of(encoding.encode_only(tokenizer, texts), texts)
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(3, stride=1, strategy="only_first", direction="left")
    backend.enable_padding(direction="left", pad_id=1, pad_token="x", length=9)
    before = backend.truncation, backend.padding
    again = encoding.tokens_of(encoding.encode_only(tokenizer, texts), texts)
    assert (backend.truncation, backend.padding) == before and None not in before
    for name in ("ids", "start", "stop", "bounds"):
        assert getattr(again, name).tolist() == getattr(plain, name).tolist()
    assert plain.lengths.tolist()[1] == 0 < plain.lengths.min(where=[True, False, True], initial=9)
