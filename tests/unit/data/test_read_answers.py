"""Files of answers in every form that is read, and what is wrong with others."""

import gzip
import json

import pytest

from qa.ask import as_json
from qa.common.errors import InputError
from qa.data import file_formats
from qa.data.read_answers import GivenAnswer, read_answers
from qa.reader import Answer

TEXTS = {"a": "red mill", "b": "", "7": "two"}
ROWS = [{"id": "a", "answer": "red mill"}, {"id": "b", "text": ""}, {"id": 7, "answer": "two", "question": "?"}]
FORMS = {
    "object.json": json.dumps(TEXTS, indent=1),
    "list.json": json.dumps(ROWS),
    "lines.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n\n",
    "separated.jsonl": "\n".join(json.dumps({**row, "note": "a\u2028b"}, ensure_ascii=False) for row in ROWS),
    "marked.json": "\ufeff" + json.dumps({**TEXTS, "b": "  "}),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_each_form_gives_the_same_texts(name, packed, tmp_path):
    file = tmp_path / (name + ".gz" * packed)
    content = FORMS[name].encode()
    file.write_bytes(gzip.compress(content) if packed else content)
    assert {identity: answer.text for identity, answer in read_answers(file).items()} == TEXTS
    assert set(answer[1:] for answer in read_answers(file).values()) == {(None, None, None)}


def test_the_lines_of_qa_ask_are_read_as_they_are(tmp_path):
    answers = [Answer("a", "mill", 4, 8, 0.75, 0.125, -2.0), Answer("b", "", None, None, 0.9, 0.9, 3.5)]
    (tmp_path / "one.json").write_text(json.dumps(as_json(answers[0])))
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(as_json(answer)) + "\n" for answer in answers))
    expected = {"a": GivenAnswer("mill", 0.75, 0.125, 4), "b": GivenAnswer("", 0.9, 0.9)}
    assert read_answers(tmp_path / "two.jsonl") == expected
    assert read_answers(tmp_path / "one.json") == {"a": expected["a"]}


WRONG = {
    '["red"]': "not a JSON object",
    "[]": "not a JSON object",
    '{"a": "red", "b": null}': r"not a text for 1 ids \(b\)",
    '{"a": "red", "a": "blue"}': "'a' twice",
    '{"a": "red"': r"not JSON \(.* at line 1, column",
    '{"id": "a", "answer": "red"}\n{"id": ': r"not JSON \(.* of line 2\)",
    '[{"id": "a", "answer": "red"}, {"id": "a", "answer": "red"}]': "row 2, id 'a' occurs twice",
    '[{"answer": "red"}]': "row 1 has no `id`",
    '[{"id": "a", "answer": null}]': "row 1, id 'a': it needs one text.*write \"\" for no answer",
    '[{"id": "a", "answer": "red", "text": "blue"}]': "it needs one text",
    '[{"id": "a", "answer": "red", "probability": 70}]': "`probability` is '70', not a probability",
    '[{"id": "a", "answer": "red", "probability": NaN}]': "`probability` is 'nan'",
    '[{"id": "a", "answer": "red", "null_probability": true}]': "`null_probability` is 'True'",
    '[{"id": "a", "answer": "red", "probability": 0.75, "null_probability": 0.5}]': "and `null_probability` 0.5 add up",
    '{"a": "\\ud83e"}': "id 'a': its answer holds half a surrogate pair",
}


DAMAGED = {
    "latin.json": (b'{"a": "\xe9"}', "not UTF-8 text"),
    "cut.json.gz": (gzip.compress(b"{}" * 50)[:-9], "not a whole gzip file"),
    "bomb.json.gz": (gzip.compress(bytes(2**20)), ".* a gzip bomb"),
    "deep.json": (b"[" * 100_000, "its JSON cannot be read .nested too deeply"),
    "long.json": (b'{"a": ' + b"1" * 10_000 + b"}", "its JSON cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(name, tmp_path, monkeypatch):
    content, message = DAMAGED[name]
    monkeypatch.setattr(file_formats, "MIN_UNPACKED", 2**10)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {message}"):
        read_answers(tmp_path / name)
    with pytest.raises(InputError, match="nowhere.json.gz: no such file"):
        read_answers(tmp_path / "nowhere.json.gz")


@pytest.mark.parametrize("content", WRONG)
def test_what_cannot_be_read_is_told_with_file_and_place(content, tmp_path):
    (tmp_path / "given.json").write_text(content)
    with pytest.raises(InputError, match=rf"given\.json: .*{WRONG[content]}"):
        read_answers(tmp_path / "given.json")
