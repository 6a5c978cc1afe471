"""The baseline repeats the published walkthrough: a plain reading of its text, computed apart from the library."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from qa.common.files import read_json
from qa.data.prepare_questions import convert
from qa.decoding.answers import decide
from qa.decoding.postprocess import postprocess, walkthrough, write_answers
from qa.model.loading import load_model
from qa.model.predict import predict
from qa.model.spans import Spans
from qa.windows.read_windows import arrow_table
from qa.windows.tokenize_and_label import WindowBuilder, tokenize
from qa.windows.tokenizer import load_tokenizer

TOKENIZERS = {name: make() for name, make in tiny.FAMILIES.items()}
BASELINE = {"max_length": 48, "max_question_length": None, "long_contexts": "truncate", "labels": "walkthrough"}
WORDS = ["the", "mill", "of", "1412", "€40", "(Ada", "Venn),", "naïve", "\n", "a", "in", "1300s", "\u3000x"]


def padded_pair(tokenizer, question, context):
    """One question as the walkthrough tokenizes it: stripped, cut to max_length, padded to it."""
    return tokenizer(
        [question.strip()],
        [context],
        max_length=BASELINE["max_length"],
        truncation="only_second",
        return_offsets_mapping=True,
        padding="max_length",
    )


def plain_label(encoding, start_char, end_char):
    """Its labelling, told in other words: where the scans from both ends of the context stop."""
    if start_char is None:
        return 0, 0
    offsets, parts = encoding["offset_mapping"][0], encoding.sequence_ids(0)
    context = [place for place, part in enumerate(parts) if part == 1]
    if offsets[context[0]][0] > end_char or offsets[context[-1]][1] < start_char:
        return 0, 0
    start = context[0]
    for place in context:
        if offsets[place][0] > start_char:
            break
        start = place + 1
    end = context[-1]
    for place in reversed(context):
        if offsets[place][1] < end_char:
            break
        end = place - 1
    return start - 1, end + 1


def plain_answer(encoding, context, start_logits, end_logits):
    """Its decoding: two argmaxes over the padded row, and the offsets of whatever stands there."""
    offsets = encoding["offset_mapping"][0]
    start, end = int(np.argmax(start_logits)), int(np.argmax(end_logits))
    return context[offsets[start][0] : offsets[end][1]] if end > start else ""


@pytest.mark.parametrize("family", TOKENIZERS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=st.lists(st.sampled_from(WORDS), min_size=3, max_size=60), data=st.data())
def test_labels_are_the_walkthroughs_to_the_letter(family, words, data):
    words = ["mill", *words]  # a context without any token ends the walkthrough in an IndexError
    tokenizer, context = TOKENIZERS[family], " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(first + 4, len(words) - 1)))
    start = sum(len(word) + 1 for word in words[:first])
    text = " ".join(words[first : last + 1])
    record = {
        "id": "q",
        "question": "  When was it built? ",
        "context": context,
        "answers": {"text": [text], "answer_start": [start]},
    }
    (row,) = tiny.rows(WindowBuilder(tokenizer, BASELINE), [record])
    encoding = padded_pair(tokenizer, record["question"], context)
    length = len(row["input_ids"])
    assert encoding["input_ids"][0][:length] == row["input_ids"].tolist()
    assert set(encoding["attention_mask"][0][length:]) <= {0}
    expected = plain_label(encoding, start, start + len(text))
    assert (row["start_positions"], row["end_positions"]) == expected


def test_an_answer_that_the_truncation_cuts_ends_past_the_context():
    tokenizer, context = TOKENIZERS["WordPiece"], " ".join(["mill"] * 100)
    answers = {"text": [context[10:]], "answer_start": [10]}
    record = {"id": "q", "question": "?", "context": context, "answers": answers}
    (row,) = tiny.rows(WindowBuilder(tokenizer, BASELINE), [record])
    assert row["end_positions"] == row["context_stop"] and row["start_positions"] < row["context_stop"]


@pytest.mark.parametrize("family", TOKENIZERS)
def test_answers_are_the_walkthroughs_to_the_letter(family, tmp_path):
    tokenizer, rng = TOKENIZERS[family], np.random.default_rng(7)
    source = tmp_path / "q.json"
    source.write_text(json.dumps(tiny.squad(60)))
    convert([source], tmp_path / "r.parquet")
    tokenize(tmp_path / "r.parquet", tokenizer, BASELINE, tmp_path / "w")
    asked = [(p["context"], q) for p in tiny.squad(60)["data"][0]["paragraphs"] for q in p["qas"]]
    spans, expected, width = Spans.empty(60, 1), {}, BASELINE["max_length"]
    for number, (context, question) in enumerate(asked):
        start, end = rng.normal(size=width), rng.normal(size=width)
        encoding = padded_pair(tokenizer, question["question"], context)
        expected[question["id"]] = plain_answer(encoding, context, start, end)
        spans.row_start_index[number], spans.row_end_index[number] = start.argmax(), end.argmax()
        spans.row_start_logit[number], spans.row_end_logit[number] = start.max(), end.max()
        spans.null_score[number] = start[0] + end[0]
    found = walkthrough(spans.locate(arrow_table(tmp_path / "w")))
    outputs, decision = {name: str(tmp_path / name) for name in tiny.OUTPUTS}, decide(found, np.inf)
    texts = write_answers(found, decision, decision.null_probability, tmp_path / "r.parquet", outputs)
    assert texts == expected
    assert 10 < sum(map(bool, texts.values())) < 50


def test_a_models_answers_are_the_walkthroughs_from_logits_to_text(tmp_path):
    tiny.save_model(tmp_path / "model", tiny.TEXT)
    (tmp_path / "q.json").write_text(json.dumps(tiny.squad(30)))
    convert([tmp_path / "q.json"], tmp_path / "r.parquet")
    tokenizer, model = load_tokenizer(tmp_path / "model"), load_model(tmp_path / "model").eval()
    tokenize(tmp_path / "r.parquet", tokenizer, BASELINE, tmp_path / "w")
    settings = {"batch_size": 7, "candidates": 2, "precision": "fp32", "padding": "max_length", "max_length": 48}
    outputs = {name: str(tmp_path / name) for name in tiny.OUTPUTS}
    paths = [tmp_path / "s.parquet"], tmp_path / "r.parquet"
    texts = set()
    for seed in range(8):  # heads at random, so wide that no two logits are nearly equal
        torch.nn.init.normal_(model.qa_outputs.weight, std=5.0, generator=torch.Generator().manual_seed(seed))
        model.save_pretrained(tmp_path / "model")
        predict(tmp_path / "model", tmp_path / "w", settings, 1, tmp_path / "s.parquet")
        postprocess(*paths, {"method": "walkthrough"}, outputs)
        expected = {}
        for paragraph in tiny.squad(30)["data"][0]["paragraphs"]:
            (question,) = paragraph["qas"]
            encoding = padded_pair(tokenizer, question["question"], paragraph["context"])
            tensors = {name: torch.tensor(encoding[name]) for name in tokenizer.model_input_names}
            with torch.inference_mode():
                logits = model(**tensors)
            starts, ends = logits.start_logits[0].numpy(), logits.end_logits[0].numpy()
            expected[question["id"]] = plain_answer(encoding, paragraph["context"], starts, ends)
        assert read_json(outputs["answers"]) == expected
        texts |= set(expected.values())
    assert "" in texts and len(texts) > 3
