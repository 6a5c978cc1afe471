"""Windows and labels, against plain computations and against the tokenizers' own overflow mechanism."""

import json
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, processors

import tiny
from plain_windows import SETTINGS, TOKENIZERS, families, plain_tokens, texts
from plain_windows import covering as plain_covering
from qa.common.errors import InputError
from qa.data.prepare_questions import convert
from qa.windows.tokenize_and_label import WindowBuilder, tokenize, window_counts
from qa.windows.tokenizer import EncodedTexts, covering, encode_only, tokens_of

quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def encode(tokenizer: Any, texts: list[str]) -> EncodedTexts:
    return tokens_of(encode_only(tokenizer, texts), texts)


def record(context: str, start: int | None = None, stop: int | None = None, question: str = "When?") -> dict[str, Any]:
    answers = {"text": [], "answer_start": []}
    if start is not None:
        answers = {"text": [context[start:stop]], "answer_start": [start]}
    return {"id": "q", "question": question, "context": context, "answers": answers}


def rows_of(family: str, record: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return list(tiny.rows(WindowBuilder(TOKENIZERS[family], {**SETTINGS, **changes}), [record]))


def decoded(row: dict[str, Any], context: str) -> str | None:
    if row["start_positions"] == row["null_position"]:
        return None
    return context[row["offset_start"][row["start_positions"]] : row["offset_end"][row["end_positions"]]]


@families
@quickly
@given(context=texts(40), question=texts(40), overlap=st.integers(0, 8), data=st.data())
def test_windows_equal_the_tokenizers_own_overflow(family: str, context: str, question: str, overlap: int, data: Any):
    tokenizer, question = TOKENIZERS[family], question.strip()
    longest = len(tokenizer(question, add_special_tokens=False)["input_ids"]) + 4 + overlap + 1
    width = data.draw(st.integers(max(longest, 16), longest + 60))
    rows = rows_of(
        family, record(context, question=question), max_length=width, overlap=overlap, max_question_length=None
    )
    theirs = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=width,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert [row["input_ids"].tolist() for row in rows] == theirs["input_ids"]
    if "token_type_ids" in theirs:
        assert [row["token_type_ids"].tolist() for row in rows] == theirs["token_type_ids"]
    own, ours = ([(a, b) for _, a, b in plain_tokens(tokenizer, context, trim)] for trim in (False, True))
    for number, row in enumerate(rows):
        parts, inside = theirs.sequence_ids(number), slice(row["context_start"], row["context_stop"])
        assert [place for place, part in enumerate(parts) if part == 1] == list(range(inside.start, inside.stop))
        tokens = slice(row["context_token"], row["context_token"] + inside.stop - inside.start)
        assert theirs["offset_mapping"][number][inside] == own[tokens]
        assert list(zip(row["offset_start"][inside], row["offset_end"][inside], strict=True)) == ours[tokens]


@families
@quickly
@given(context=texts(40), overlap=st.integers(0, 8))
def test_windows_together_cover_every_token_of_the_context(family: str, context: str, overlap: int):
    whole = encode(TOKENIZERS[family], [context])[0]
    covered: set[int] = set()
    for row in rows_of(family, record(context), overlap=overlap):
        tokens = range(row["context_token"], row["context_token"] + row["context_stop"] - row["context_start"])
        assert row["input_ids"][row["context_start"] : row["context_stop"]].tolist() == whole.ids[list(tokens)].tolist()
        covered.update(tokens)
    assert covered == set(range(len(whole)))


@families
@quickly
@given(context=texts(9))
def test_no_span_of_tokens_begins_or_ends_with_white_space_even_where_that_is_a_token(family: str, context: str):
    tokens = encode(TOKENIZERS[family], [context, context])[1]
    for start in tokens.start.tolist():
        for stop in tokens.stop.tolist():
            text = context[start:stop] if start < stop else ""
            assert text == text.strip()


@families
@quickly
@given(context=texts(40), data=st.data())
def test_a_label_is_the_smallest_token_span_that_contains_the_answer(family: str, context: str, data: Any):
    start = data.draw(st.integers(0, len(context) - 1))
    stop = data.draw(st.integers(start + 1, min(len(context), start + 30)))
    all_offsets = [(a, b) for _, a, b in plain_tokens(TOKENIZERS[family], context, trim=True)]
    touching = [number for number, (a, b) in enumerate(all_offsets) if a < b and a < stop and b > start]
    for row in rows_of(family, record(context, start, stop), overlap=4):
        first = row["context_token"]
        inside = range(first, first + row["context_stop"] - row["context_start"])
        text = decoded(row, context)
        if not touching or touching[0] not in inside or touching[-1] not in inside:
            assert text is None
            continue
        label = (row["start_positions"] - row["context_start"], row["end_positions"] - row["context_start"])
        assert label == (touching[0] - first, touching[-1] - first)
        begins, ends = all_offsets[touching[0]][0], all_offsets[touching[-1]][1]
        assert text == context[begins:ends]
        if (begins, ends) == (start, stop):
            assert text == context[start:stop]
        letters = [place for place in range(start, stop) if any(a <= place < b for a, b in all_offsets)]
        assert begins <= letters[0] and letters[-1] < ends


@families
@pytest.mark.parametrize(
    "answer", ["The", "1412", "slate", "Söhl", "€40", "The bridge over the river Söhl cost €40 in 1412 slate"]
)
def test_answers_on_token_ends_come_back_to_the_letter(family: str, answer: str):
    context = "The bridge over the river Söhl cost €40 in 1412 slate"
    start = context.index(answer)
    rows = rows_of(family, record(context, start, start + len(answer)), max_length=120)
    assert [decoded(row, context) for row in rows] == [answer]


@families
def test_an_answer_at_a_windows_last_context_token_keeps_its_label(family: str):
    tokenizer = TOKENIZERS[family]
    context = "the bridge the bridge the bridge the bridge the bridge"
    tokens = encode(tokenizer, [context])[0]
    for token in range(len(tokens)):
        start, stop = int(tokens.start[token]), int(tokens.stop[token])
        for row in rows_of(family, record(context, start, stop), max_length=24, overlap=0, max_question_length=8):
            last = row["context_token"] + row["context_stop"] - row["context_start"] - 1
            if token in (row["context_token"], last):
                assert (
                    row["start_positions"]
                    == row["end_positions"]
                    == row["context_start"] + token - row["context_token"]
                )


def with_holes() -> Any:
    """As RobBERT's: byte-level BPE behind a split at white space. Offsets leave out the first letter of each word."""
    tokenizer = tiny.byte_level_bpe([" said Jansen in 1893 a 5 ."] * 9)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel()])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, True)
    return tokenizer


@pytest.mark.parametrize("answer", ["said", "Jansen", "in 1893.", "a)", "5", "5.", "(a", "(a)", "é", "5. Jansen in"])
def test_labels_read_the_whole_answer_where_a_tokenizers_offsets_leave_letters_out(answer: str):
    context, tokenizer = "5. Jansen in 1893. said (a) é", with_holes()
    offsets = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert (3, 9) not in offsets and (4, 9) in offsets
    start = context.index(answer)
    (row,) = tiny.rows(WindowBuilder(tokenizer, SETTINGS), [record(context, start, start + len(answer))])
    assert decoded(row, context) == answer


@pytest.mark.parametrize("answer", ["Cafe\u0301", "นี้", "a\u0301\u0328", "അവന്\u200d", "bridge\ufffd"])
def test_labels_read_the_whole_answer_where_a_normalizer_drops_letters(answer: str):
    context = f"the bridge {answer} slate"
    start = context.index(answer)
    (row,) = rows_of("WordPiece", record(context, start, start + len(answer)))
    assert decoded(row, context) == answer


@families
@pytest.mark.parametrize("mark", ["\u200e", "\u200b", "\ufeff", "\u00ad", "\u2066", "\x10"])
def test_invisible_characters_beside_an_answer_are_no_part_of_it(family: str, mark: str):
    context = f"the bridge {mark}1412{mark} {mark}slate, {mark}"
    for answer in ("1412", "slate"):
        start = context.index(answer)
        (row,) = rows_of(family, record(context, start, start + len(answer)))
        assert decoded(row, context) == answer


@given(text=st.text("ab \u0301\u200b\u200d", max_size=12), data=st.data())
def test_letters_without_a_token_belong_to_a_neighbour(text: str, data: Any):
    spans = data.draw(st.lists(st.tuples(*[st.integers(0, len(text))] * 2).map(sorted).map(tuple), max_size=6))
    points = np.array([ord(letter) for letter in text], np.uint32)
    start, stop = np.array(spans, np.int64).reshape(-1, 2).T
    found = [side.tolist() for side in covering(points, start, stop)]
    assert list(zip(*found, strict=True)) == plain_covering(text, spans)


def test_a_window_is_labelled_with_the_first_gold_answer_that_it_holds():
    context = "1412 " + "bridge " * 60 + "slate 1412"
    golds = [context.index("slate"), context.rindex("1412"), 0]
    question = {**record(context), "answers": {"text": ["slate", "1412", "1412"], "answer_start": golds}}
    rows = rows_of("WordPiece", question)
    assert [decoded(row, context) for row in rows] == ["1412", *[None] * (len(rows) - 2), "slate"]
    (first, *_) = rows_of("WordPiece", question, labels="walkthrough")
    assert decoded(first, context) is None


def test_labels_whose_text_is_no_exact_match_of_the_answer_are_counted(tmp_path, caplog):
    data = tiny.squad(3)
    for paragraph, cut in zip(data["data"][0]["paragraphs"], (1, 0), strict=False):
        (answer,) = paragraph["qas"][0]["answers"]
        answer["text"] = answer["text"][: 4 - cut]
    (tmp_path / "q.json").write_text(json.dumps(data))
    convert([tmp_path / "q.json"], tmp_path / "records.parquet")
    tokenizer = tiny.word_piece(["The mill of built in 1300 1301 by Ada Venn When was"] * 9)
    with caplog.at_level("INFO"):
        counts = tokenize(tmp_path / "records.parquet", tokenizer, {**SETTINGS, "max_length": 400}, tmp_path / "w")
    assert (counts.labelled, counts.inexact) == (2, 1)
    assert "2 with an answer (1 of" in caplog.text


def test_bytes_that_share_a_character_all_belong_to_the_answer():
    tokenizer = tiny.byte_level_bpe(texts=["plain letters only"], size=260)
    context = "it cost € 40"
    encoded = encode(tokenizer, [context])[0]
    bytes_of_euro = [place for place in range(len(encoded)) if encoded.start[place] == 8 and encoded.stop[place] == 9]
    assert len(bytes_of_euro) == 3
    row = next(tiny.rows(WindowBuilder(tokenizer, {**SETTINGS, "max_length": 60}), [record(context, 8, 9)]))
    label = [row["start_positions"] - row["context_start"], row["end_positions"] - row["context_start"]]
    assert label == [bytes_of_euro[0], bytes_of_euro[-1]]


def test_tokens_without_width_begin_and_end_no_answer():
    context = "the  bridge  Söhl"
    tokens = encode(TOKENIZERS["byte-level BPE"], [context])[0]
    assert (tokens.start > tokens.stop).any()
    for row in rows_of("byte-level BPE", record(context, 3, 13), max_length=60):
        assert decoded(row, context) == "bridge"


@families
def test_unanswerable_questions_and_cut_answers_are_labelled_null(family: str):
    context = " ".join(["bridge"] * 60) + " 1412"
    rows = rows_of(family, record(context))
    assert len(rows) > 1 and all(decoded(row, context) is None for row in rows)
    rows = rows_of(family, record(context, 0, len(context)))
    assert all(row["start_positions"] == row["end_positions"] == 0 for row in rows)


@families
def test_truncation_keeps_the_first_window_only(family: str):
    context = " ".join(["bridge"] * 80)
    first, *_ = rows_of(family, record(context))
    (only,) = rows_of(family, record(context), long_contexts="truncate")
    assert only["input_ids"].tolist() == first["input_ids"].tolist()


@families
def test_long_questions_are_cut_by_tokens(family: str):
    question = " ".join(["bridge"] * 100)
    rows = rows_of(family, record("the bridge", question=question), max_question_length=5)
    specials = WindowBuilder(TOKENIZERS[family], SETTINGS).template.special_tokens
    context = len(encode(TOKENIZERS[family], ["the bridge"])[0])
    assert [len(row["input_ids"]) for row in rows] == [5 + specials + context]


def test_a_question_that_leaves_no_room_is_named():
    with pytest.raises(InputError, match=r"id 'q'.*leaves 0 of 40"):
        rows_of("WordPiece", record("the bridge", question=" ".join(["bridge"] * 100)), max_question_length=None)


def test_rows_longer_than_the_model_takes_are_refused():
    with pytest.raises(InputError, match="max_length: 600 tokens are more than the 512"):
        WindowBuilder(TOKENIZERS["WordPiece"], {**SETTINGS, "max_length": 600})


def test_an_empty_context_makes_one_window_without_context():
    (row,) = rows_of("WordPiece", record(""))
    assert row["context_start"] == row["context_stop"] and row["start_positions"] == 0


@given(tokens=st.integers(0, 500), room=st.integers(2, 60), overlap=st.integers(0, 58))
def test_windows_are_as_few_as_cover_the_context(tokens: int, room: int, overlap: int):
    overlap = min(overlap, room - 1)
    (count,) = window_counts(np.array([tokens]), np.array([room]), overlap)
    covered = [room + number * (room - overlap) for number in range(count)]
    assert covered[-1] >= tokens and all(end < tokens for end in covered[:-1])


def test_the_null_position_of_a_row_is_its_cls_token_wherever_that_stands():
    tokenizer = tiny.word_piece()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP] [CLS]:2",
        pair="$A [SEP] $B:1 [SEP]:1 [CLS]:2",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    for row in tiny.rows(WindowBuilder(tokenizer, SETTINGS), [record("the bridge " * 40)]):
        assert row["input_ids"][row["null_position"]] == tokenizer.cls_token_id
        assert row["start_positions"] == row["null_position"] == len(row["input_ids"]) - 1
        assert row["token_type_ids"][-1] == 2


def test_windows_are_stored_as_a_dataset_in_record_order(tmp_path):
    source = tmp_path / "questions.json"
    source.write_text(json.dumps(tiny.squad(30)))
    convert([source], tmp_path / "records.parquet")
    counts = tokenize(tmp_path / "records.parquet", TOKENIZERS["WordPiece"], SETTINGS, tmp_path / "windows")
    windows = datasets.load_from_disk(tmp_path / "windows")
    assert len(windows) == counts.windows > counts.questions == 30
    assert windows["record"][:] == sorted(windows["record"][:]) and set(windows["record"][:]) == set(range(30))
    assert counts.labelled >= 20 and not counts.unlabelled
    assert not list(tmp_path.glob(".*partial*"))
