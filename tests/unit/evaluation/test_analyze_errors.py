"""Mistakes: exactly the questions without an exact match, each with its place, probability and kind."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from qa.common.errors import InputError
from qa.data.prepare_questions import convert
from qa.decoding import nbest
from qa.decoding.answers import Candidates, decide
from qa.decoding.postprocess import write_answers
from qa.evaluation.analyze_errors import kind_of, write_errors
from qa.evaluation.score import score
from qa.metrics.squad import raw_scores

CONTEXT = "The mill of Tarn was built in 1412 by Ada Venn."
HOSTILE = (
    '<script>alert("x")</script> & \'Söhl\'\x00\t\r\n مَطْحَنَة \u202eabc\u202c 👩\u200d👩\u200d👧 1412 e\u0301 =1+1,"\n'
)


def span(text, context=CONTEXT):
    return {"text": text, "start": context.index(text)}


@pytest.mark.parametrize(
    ("gold", "answer", "kind"),
    [
        (["1412"], "", "missed answer"),
        ([], "1412", "answered the unanswerable"),
        (["1412"], "in 1412", "boundary"),
        (["1412"], "41", "boundary"),
        (["Ada", "built in 1412"], "1412 by", "boundary"),
        (["1412"], "built in ", "wrong span"),
        (["built in "], "1412", "wrong span"),
        (["1412"], "Ada Venn", "wrong span"),
    ],
)
def test_the_kind_of_error(gold, answer, kind):
    assert kind_of([span(text) for text in gold], answer, CONTEXT.index(answer) if answer else -1) == kind


def write(folder, records, candidates, threshold=0.0):
    """Write a records file and the files of answers; `candidates` of a question are (start, stop, score) and a null."""
    data = [
        {
            "id": key,
            "title": title,
            "question": question,
            "context": context,
            "answers": [{"text": gold["text"], "answer_start": gold["start"]} for gold in golds],
        }
        for key, title, question, context, golds in records
    ]
    (folder / "source.jsonl").write_text("\n".join(map(json.dumps, data)))
    convert([folder / "source.jsonl"], folder / "records.parquet")
    flat = [(number, *spot) for number, (spots, _) in enumerate(candidates) for spot in spots]
    columns = list(zip(*flat, strict=True)) or [()] * 4
    kinds = (np.int64, np.int64, np.int64, np.float64)
    arrays = [np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    found = Candidates(*arrays, np.array([null for _, null in candidates]), np.ones(len(records), int))
    outputs, decision = {name: str(folder / name) for name in tiny.OUTPUTS}, decide(found, threshold)
    return write_answers(found, decision, decision.null_probability, folder / "records.parquet", outputs)


def made(folder):
    scores = folder / "question_scores.parquet"
    score(folder / "answers", folder / "null_scores", folder / "nbest", folder / "metrics.json", scores)
    return write_errors(scores, folder / "errors.parquet")


def test_each_row_by_hand(tmp_path):
    place = {text: (CONTEXT.index(text), CONTEXT.index(text) + len(text)) for text in ("1412", "in 1412", "Ada Venn")}
    records = [
        ("right", "Mills", "When?", CONTEXT, [span("1412")]),
        ("boundary", "Mills", "When?", CONTEXT, [span("1412"), span("was")]),
        ("wrong", "", "When?", CONTEXT, [span("1412")]),
        ("missed", "", "When?", CONTEXT, [span("1412")]),
        ("silent", "", "When did it burn?", CONTEXT, []),
        ("made up", "", "When did it burn?", CONTEXT, []),
        ("nothing", "", "When?", CONTEXT, [span("1412")]),
    ]
    candidates = [
        ([(*place["1412"], 2.0)], 0.0),
        ([(*place["in 1412"], 2.0), (*place["1412"], 2.0)], 0.0),
        ([(*place["Ada Venn"], 0.0)], 0.0),
        ([(*place["1412"], 0.0)], 1.0),
        ([(*place["1412"], 0.0)], 1.0),
        ([(*place["1412"], 1.0)], 1.0),
        ([], -3.0),
    ]
    write(tmp_path, records, candidates)
    kinds = made(tmp_path)
    one, e, e2 = 1 + np.e, np.e, np.e**2
    expected = [
        ("boundary", "Mills", "in 1412", *place["in 1412"], e2 / (2 * e2 + 1), 0.0, 1 / (2 * e2 + 1), 2 / 3),
        ("wrong", "", "Ada Venn", *place["Ada Venn"], 0.5, 0.0, 0.5, 0.0),
        ("missed", "", "", -1, -1, e / one, 1.0, e / one, 0.0),
        ("made up", "", "1412", *place["1412"], 0.5, 1.0, 0.5, 0.0),
        ("nothing", "", "", -1, -1, 1.0, -3.0, 1.0, 0.0),
    ]
    table = parquet.read_table(tmp_path / "errors.parquet")
    rows = table.to_pylist()
    names = ("id", "title", "answer", "start", "stop", "probability", "null_score", "null_probability", "f1")
    for row, values in zip(rows, expected, strict=True):
        assert [row[name] for name in names[:5]] == list(values[:5])
        assert [row[name] for name in names[5:]] == pytest.approx(values[5:])
        assert row["context"] == CONTEXT and row["question"].startswith("When")
    assert rows[0]["gold"] == [span("1412"), span("was")] and rows[3]["gold"] == []
    kinds_of_rows = ["boundary", "wrong span", "missed answer", "answered the unanswerable", "missed answer"]
    assert [row["kind"] for row in rows] == kinds_of_rows
    assert kinds == {kind: kinds_of_rows.count(kind) for kind in kinds_of_rows}
    assert parquet.ParquetFile(tmp_path / "errors.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


@st.composite
def cases(draw):
    """Records with hostile and other contexts, and for each some candidates and a null score."""
    records, candidates = [], []
    for number in range(draw(st.integers(1, 7))):
        context = draw(st.just(HOSTILE) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
        places = st.tuples(*[st.integers(0, len(context))] * 2).filter(lambda ends: ends[0] < ends[1])
        golds = [{"text": context[a:b], "start": a} for a, b in draw(st.lists(places, max_size=2))]
        spots = {**dict.fromkeys(draw(st.lists(places, max_size=3)))}
        scores = sorted(draw(st.lists(st.floats(-3, 3), min_size=len(spots), max_size=len(spots))), reverse=True)
        records.append((f"q{number}", draw(st.sampled_from(["", "מגדל"])), "why?", context, golds))
        candidates.append(([(*spot, score) for spot, score in zip(spots, scores, strict=True)], draw(st.floats(-3, 3))))
    return records, candidates


@settings(deadline=None)
@given(cases(), st.integers(1, 4))
def test_there_is_a_row_for_exactly_the_questions_without_an_exact_match(tmp_path_factory, case, batch):
    folder, (records, candidates) = tmp_path_factory.mktemp("mistakes"), case
    answers = write(folder, records, candidates)
    golds = {key: [gold["text"] for gold in spans] for key, _, _, _, spans in records}
    exact, overlap = raw_scores(golds, answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nbest, "BATCH", batch)
        kinds = made(folder)
    rows = parquet.read_table(folder / "errors.parquet").to_pylist()
    assert [row["id"] for row in rows] == [key for key in exact if not exact[key]]
    assert kinds.total() == len(rows)
    given_records = {record[0]: record for record in records}
    for row in rows:
        assert (row["id"], row["title"], row["question"], row["context"], row["gold"]) == given_records[row["id"]]
        assert (row["answer"], row["f1"]) == (answers[row["id"]], overlap[row["id"]])
        if row["answer"]:
            assert row["context"][row["start"] : row["stop"]] == row["answer"]
        else:
            assert (row["start"], row["stop"]) == (-1, -1) and row["probability"] == row["null_probability"]


def test_a_hostile_context_stays_as_it_is(tmp_path):
    start = HOSTILE.index("👩")
    records = [("q", "<b>", "🦀?", HOSTILE, [span("1412", HOSTILE)])]
    write(tmp_path, records, [([(start, start + 5, 1.0)], 0.0)])
    assert made(tmp_path) == {"wrong span": 1}
    (row,) = parquet.read_table(tmp_path / "errors.parquet").to_pylist()
    assert row["context"] == HOSTILE and row["answer"] == "👩\u200d👩\u200d👧"
    assert (row["start"], row["stop"], row["title"], row["question"]) == (start, start + 5, "<b>", "🦀?")


def test_a_file_without_mistakes_has_its_columns(tmp_path):
    write(tmp_path, [("q", "", "?", CONTEXT, [span("1412")])], [([(*[CONTEXT.index("1412")], 34, 1.0)], 0.0)])
    assert not made(tmp_path)
    table = parquet.read_table(tmp_path / "errors.parquet")
    assert table.num_rows == 0 and {"id", "gold", "kind", "probability"} <= set(table.column_names)


@pytest.fixture
def two(tmp_path):
    """The files of two questions, both answered wrongly."""
    records = [(key, "", "?", CONTEXT, [span("1412")]) for key in ("a", "b")]
    write(tmp_path, records, [([(0, 8, 1.0)], 0.0)] * 2)
    return tmp_path


@pytest.mark.parametrize("answers", [{"a": ""}, {"a": "", "c": ""}, {"a": "", "b": "", "c": ""}])
def test_answers_of_other_questions_are_refused(answers, two):
    (two / "answers").write_text(json.dumps(answers))
    with pytest.raises(InputError, match=r"predictions: (nothing for 1 of 2 questions|1 ids that the data)"):
        made(two)
    assert not (two / "errors.parquet").exists()


def test_an_answer_that_is_no_candidate_is_named(two):
    (two / "answers").write_text('{"a": "", "b": "mill"}')
    with pytest.raises(InputError, match=r"nbest: id 'b': the answer 'mill' is not the first candidate"):
        made(two)


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_n_best_lists_that_cannot_be_read_are_named(damage, two):
    if damage == "cut":
        (two / "nbest").write_bytes(b"PAR1")
    elif damage == "other":
        parquet.write_table(pa.table({"id": ["a", "b"]}), two / "nbest")
    else:
        (two / "nbest").unlink()
    with pytest.raises(InputError, match=r"nbest: n-best lists cannot be read .*run again"):
        made(two)
