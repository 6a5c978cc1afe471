"""Misaligned answers: found where their text stands, dropped, or refused; never lost without a count."""

import json
import logging

import pyarrow.parquet as parquet
import pytest

from qa.common.errors import InputError
from qa.data.align_answers import GoldAnswer, realigned
from qa.data.prepare_questions import convert

CONTEXT = "aa bb aa bb aa"
ANSWERS = {
    "near": {"text": ["aa"], "answer_start": [5]},
    "tie": {"text": ["bb"], "answer_start": [6]},
    "right": {"text": ["bb"], "answer_start": [3]},
    "one of two": {"text": ["bb", "zz"], "answer_start": [3, 0]},
    "nowhere": {"text": ["zz"], "answer_start": [0]},
    "unanswerable": {"text": [], "answer_start": []},
    "no start": {"text": ["bb"]},
}


def converted(folder, misaligned, answers=ANSWERS):
    """The starts of the answers of each question that is kept, and the counts."""
    rows = [{"id": name, "context": CONTEXT, "question": "?", "answers": value} for name, value in answers.items()]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    counts = convert([folder / "m.jsonl"], folder / "r.parquet", misaligned)
    found = parquet.read_table(folder / "r.parquet").to_pylist()
    return {row["id"]: row["answers"]["answer_start"] for row in found}, counts


def test_realign_moves_an_answer_to_the_nearest_place_and_drops_what_stands_nowhere(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    starts, counts = converted(tmp_path, "realign")
    assert starts == {"near": [6], "tie": [3], "right": [3], "one of two": [3], "unanswerable": [], "no start": [3]}
    assert (counts.unanswerable, counts.realigned, counts.dropped_answers, counts.dropped_questions) == (1, 3, 2, 1)
    assert "line 5, id 'nowhere': 'zz' at 0" in caplog.text and "3 realigned, 2 dropped, and with them 1" in caplog.text


def test_drop_leaves_out_misaligned_answers_and_says_how_many_realign_would_find(tmp_path, caplog):
    starts, counts = converted(tmp_path, "drop")
    assert starts == {"right": [3], "one of two": [3], "unanswerable": []}
    assert (counts.unanswerable, counts.realigned, counts.dropped_answers, counts.dropped_questions) == (1, 0, 5, 4)
    assert "`realign` finds 3 of them" in caplog.text


@pytest.mark.parametrize("misaligned", ["realign", "drop"])
def test_where_no_question_is_left_the_reason_is_said_and_nothing_is_written(misaligned, tmp_path):
    with pytest.raises(InputError, match="'zz' at 0.*Without them no question is left"):
        converted(tmp_path, misaligned, {"nowhere": ANSWERS["nowhere"]})
    assert not (tmp_path / "r.parquet").exists()


WAYS = {  # context, text, start -> what stands there, and where
    "no-break space": ("at\u00a0Torsnes in", "at Torsnes", 0, "at\u00a0Torsnes", 0),
    "two spaces and a line end": ("x in  the\n\ntown.", "in the town", 2, "in  the\n\ntown", 2),
    "spaces around": ("in 1893.", " 1893 ", 2, "1893", 3),
    "composed context": ("Un caf\u00e9 noir", "cafe\u0301", 3, "caf\u00e9", 3),
    "decomposed context": ("Un cafe\u0301 noir", "caf\u00e9", 3, "cafe\u0301", 3),
    "decomposed Hangul": ("\u1112\u1161\u11ab!", "\ud55c", 0, "\u1112\u1161\u11ab", 0),
    "marks in another order": (
        "\u0645\u0651\u064e\u062f \u0647",
        "\u0645\u064e\u0651\u062f",
        0,
        "\u0645\u0651\u064e\u062f",
        0,
    ),
    "composed in part": ("x T\u00f4\u0323, y", "T\u1ed9", 2, "T\u00f4\u0323", 2),
    "a mark that another order puts last": ("x T\u00f4\u0323", "T\u00f4", 9, "T\u00f4", 2),
    "the nearest of two": ("a  b, a  b, a  b", "a b", 7, "a  b", 6),
    "UTF-16 units, as JavaScript counts": ("\U0001f4a9\U0001f4a9\U0001f4a9 a 12 x12", "12", 9, "12", 6),
    "bytes": ("\u00e9\u00e9\u00e9 a 12 x12", "12", 9, "12", 6),
    "spaces around, and exactly so far away": ("Paris fell. Then Paris rose.", " Paris", 0, "Paris", 0),
    "composed here, decomposed far away": ("Un caf\u00e9, un cafe\u0301", "cafe\u0301", 3, "caf\u00e9", 3),
    "neither": ("\u00e9\u00e9\u00e9 a 12 x12", "12", 11, "12", 10),
    "an accent is no white space": ("Un caf\u00e9", "cafe", 3, None, None),
    "nor is it in two characters": ("Un cafe\u0301 x", "caf e", 3, None, None),
    "no start, and the first place is in a word": ("Financial, finan, nan.", "nan", None, "nan", 18),
    "no start, and every place is in a word": ("\u6211\u5728\u5317\u4eac", "\u5728", None, "\u5728", 1),
    "no start, the first whole word of two": ("a b, b", "b", None, "b", 2),
    "a start near a word's part": ("In the 1990s. 1990", "1990", 6, "1990", 7),
    "white space alone": ("a  b", " ", 9, " ", 2),
    "empty": ("a", "", 0, None, None),
}


@pytest.mark.parametrize("case", WAYS)
def test_white_space_unicode_form_and_units_do_not_keep_an_answer_from_its_place(case):
    context, text, start, found, place = WAYS[case]
    answer = realigned(context, GoldAnswer(text, start))
    assert answer == (None if found is None else GoldAnswer(found, place))
    assert answer is None or answer.stands_in(context)


def test_the_message_shows_what_differs_where_both_texts_print_alike(tmp_path):
    row = {
        "id": "q",
        "context": "Un cafe\u0301.",
        "question": "?",
        "answers": [{"text": "caf\u00e9", "answer_start": 3}],
    }
    (tmp_path / "q.jsonl").write_text(json.dumps(row, ensure_ascii=False))
    with pytest.raises(InputError) as caught:
        convert([tmp_path / "q.jsonl"], tmp_path / "r.parquet")
    assert r"'caf\xe9' at 3" in str(caught.value) and r"'cafe\u0301' at 3 differs in white space" in str(caught.value)
