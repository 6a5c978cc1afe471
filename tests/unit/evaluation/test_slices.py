"""Slices against hand-made questions, and sums and draws of plain Python."""

import csv
import json
import random
import statistics as plain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_questions import write_scores

import tiny
from qa.data.prepare_questions import convert, records_schema
from qa.decoding import nbest
from qa.evaluation import slices
from qa.evaluation.slices import Slicing, answer_type, bin_names, binned, question_word
from qa.metrics.squad import raw_scores


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("What did Ada build?", "what"),
        ("In WHAT year?", "what"),
        ("Whom did she ask, and why?", "who"),
        ("Whose mill burnt?", "who"),
        ("Who's there?", "who"),
        ("Since when?", "when"),
        ("By which road, and where?", "which"),
        ("Where is it?", "where"),
        ("Why?", "why"),
        ("How did it burn?", "how"),
        ("How  many mills were there?", "how many/much"),
        ("Oats cost how\tmuch?", "how many/much"),
        ("Name a mill, however small, somewhere whatsoever.", "other"),
        ("", "other"),
    ],
)
def test_the_question_word_is_the_first_anywhere(question, word):
    assert question_word(question) == word


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *(
            (text, "date")
            for text in ("1412", "May", "24 August \u2013 3 October 1572", "the late 19th century", "1960s")
        ),
        *((text, "date") for text in ("2001-09-11", "12/25/1999", "44 BC", "between 1998/99 and 2004", "Fridays")),
        *(
            (text, "number")
            for text in ("2,000", "$1.5bn", "about 3 weeks", "twenty-five widows", "\u221240 °C", "88%")
        ),
        *((text, "number") for text in ("at least a dozen", "US$5", "٤٢", "3.62", "half", "1/2", "more than two")),
        *((text, "name") for text in ("Ada Venn-Mor", "the University of Söhl", "“E.I. du Pont”", "UK", "18th Street")),
        *((text, "phrase") for text in ("ground oats", "The mill by the river", "a third", "東京", "¿?", "", "the of")),
        *((text, "phrase") for text in ("in 1412 by oxen", "may be", "4th", "🦀 crabs", "The 1st bridge")),
    ],
)
def test_the_type_of_an_answer_follows_the_stated_rules(text, kind):
    assert answer_type(text) == kind


def test_bins_are_named_by_the_values_that_they_hold():
    lasts = (1, 2, 5, 10)
    assert bin_names(lasts) == ["1", "2", "3 to 5", "6 to 10", "11 or more"]
    assert bin_names((100, 150)) == ["up to 100", "101 to 150", "151 or more"]
    assert binned(np.array([1, 2, 3, 5, 6, 10, 11, 999, -1]), lasts).tolist() == [0, 1, 2, 2, 3, 3, 4, 4, -1]


def record(number, context="It was built in 1412.", answers=("1412",), title="", question="When?"):
    given = [{"text": text, "answer_start": context.index(text)} for text in answers]
    return {"id": f"q{number}", "title": title, "context": context, "question": question, "answers": given}


@pytest.fixture
def convert_records(tmp_path):
    """Write records as a file of scored questions, none of them answered, with these numbers of windows."""

    def convert_records(records, windows):
        source = tmp_path / "source.jsonl"
        source.write_text("\n".join(json.dumps(row) for row in records))
        convert([source], tmp_path / "records.parquet")
        texts = dict.fromkeys((row["id"] for row in records), "")
        return write_scores(tmp_path / "records.parquet", texts, tmp_path / "scores.parquet", windows)

    return convert_records


def named(slicing):
    return [slicing.names[place] if place >= 0 else None for place in slicing.place]


def test_each_slicing_by_hand(convert_records, monkeypatch):
    monkeypatch.setattr(nbest, "BATCH", 2)
    long = "Ada Venn " + "ground oats " * 100 + "by Söhl"
    slicings, scores, _ = slices.read_slicings(
        convert_records(
            [
                record(0, title="Mills"),
                record(1, answers=[], title="Mills", question="Who built it?"),
                record(2, long, ["Söhl", "by Söhl", "by Söhl"], "Söhl"),
                record(3, long, ["oats ground oats ground", "Ada Venn"]),
                record(4, "x" * 40, ["x"]),
            ],
            [1, 1, 3, 4, 9],
        )
    )
    assert scores.tolist() == [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]
    found = {slicing.kind: named(slicing) for slicing in slicings}
    assert found == {
        "answerability": ["answerable", "unanswerable", *["answerable"] * 3],
        "question word": ["when", "who", "when", "when", "when"],
        "answer length in words": ["1", None, "1", "2", "1"],
        "answer type": ["date", None, "phrase", "phrase", "phrase"],
        "answer position in the context": ["last quarter", None, "last quarter", "first quarter", "first quarter"],
        "context length in words": ["up to 100", "up to 100", "201 to 300", "201 to 300", "up to 100"],
        "windows": ["1", "1", "3", "4 or more", "4 or more"],
        "article": ["Mills", "Mills", "Söhl", "(no title)", "(no title)"],
    }


CONTEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60) | st.just(
    "In May 1412, 40 oxen drew Ada. " * 9
)


@st.composite
def made_records(draw):
    """Records of any text, answers anywhere in it."""
    made = []
    for number in range(draw(st.integers(1, 6))):
        context, answers = draw(CONTEXTS), []
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(context) - 1))
            answers.append((start, context[start : draw(st.integers(start + 1, len(context)))]))
        lists = {"text": [text for _, text in answers], "answer_start": [start for start, _ in answers]}
        title, question = draw(st.sampled_from(["", "a", "b"])), draw(st.text(st.characters(codec="utf-8")))
        made.append({"id": f"q{number}", "title": title, "context": context, "question": question, "answers": lists})
    return made


@settings(deadline=None)
@given(made_records(), st.data())
def test_each_answerable_question_is_in_exactly_one_slice_of_each_kind(tmp_path_factory, made, data):
    file = tmp_path_factory.mktemp("slices") / "records.parquet"
    schema = records_schema()
    pa.parquet.write_table(pa.Table.from_pylist(made, schema), file)
    windows = [data.draw(st.integers(1, 9)) for _ in made]
    written = write_scores(file, {row["id"]: "" for row in made}, file.with_name("scores.parquet"), windows)
    slicings, scores, titles = slices.read_slicings(written)
    answerable = np.array([bool(row["answers"]["text"]) for row in made])
    for slicing in slicings:
        assert len(slicing.place) == len(made) and (slicing.place < len(slicing.names)).all()
        assert (slicing.place[answerable] >= 0).all()
        counted = sum(row["count"] for row in slices.rows(slicing, scores, titles))
        by_answer = slicing.kind in ("answer length in words", "answer type", "answer position in the context")
        assert counted == (answerable.sum() if by_answer else len(made))


def draw_by_draw(groups, resamples, seed):
    """Percentile interval of the mean of values, whole groups of which are drawn one by one."""
    draw, means = random.Random(seed), []
    for _ in range(resamples):
        values = [value for group in draw.choices(groups, k=len(groups)) for value in group]
        means.append(100 * plain.fmean(values))
    return np.percentile(means, [2.5, 97.5])


def test_intervals_are_those_of_drawing_questions_or_where_there_are_enough_articles_those():
    rng = np.random.default_rng(1)
    article = np.repeat(np.arange(12), 10)
    exact = (rng.random(120) < 0.3 + 0.05 * article).astype(float)
    scores = np.stack([exact, np.where(exact, 1.0, 0.5)], axis=1)
    place = np.repeat([0, 1], 60)[np.argsort(np.arange(120) % 2, kind="stable").argsort()]  # every other question
    titles = [f"t{n}" for n in article]
    for names, groups, where in (
        (titles, [exact[(article == n) & (place == 0)] for n in range(12)], "articles"),
        ([""] * 120, [[value] for value in exact[place == 0]], "questions"),
        (["one"] * 120, [[value] for value in exact[place == 0]], "questions"),
    ):
        row, _ = slices.rows(Slicing("k", ("even", "odd"), place), scores, names)
        expected = draw_by_draw([list(group) for group in groups], 2_000, seed=2)
        width = expected[1] - expected[0]
        assert [row["exact_low"], row["exact_high"]] == pytest.approx(expected, abs=0.1 * width)
        assert [row["f1_low"], row["f1_high"]] == pytest.approx(50 + expected / 2, abs=0.05 * width)
        assert row["resampled"] == where
        assert (row["count"], row["exact"]) == (60, pytest.approx(100 * exact[place == 0].mean()))


def test_a_slice_of_few_questions_has_no_interval_and_an_empty_one_no_row():
    size = slices.LEAST_QUESTIONS
    place = np.array([0] * (size - 1) + [2] * size + [-1])
    scores = np.ones((len(place), 2))
    few, enough = slices.rows(Slicing("k", ("few", "none", "enough"), place), scores, [""] * len(place))
    assert few == {"kind": "k", "slice": "few", "count": size - 1, "exact": 100.0, "f1": 100.0}
    assert (enough["slice"], enough["count"], enough["exact_low"], enough["f1_high"]) == ("enough", size, 100.0, 100.0)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Scores of 30 questions in 3 articles, one of a hostile name, and the answers to them."""
    folder = tmp_path_factory.mktemp("slices")
    data = tiny.squad(30)
    paragraphs = data["data"][0]["paragraphs"]
    titles = ('Mills, "old"\n=1+1', "מגדל", "🦀")
    data["data"] = [{"title": title, "paragraphs": paragraphs[n::3]} for n, title in enumerate(titles)]
    (folder / "source.json").write_text(json.dumps(data))
    convert([folder / "source.json"], folder / "records.parquet")
    golds = {qa["id"]: [a["text"] for a in qa["answers"]] for p in paragraphs for qa in p["qas"]}
    rng = random.Random(3)
    answers = {key: rng.choice([*texts, "", "1412", f"{texts[:1]} mill"]) for key, texts in golds.items()}
    windows = [5 if number % 6 == 0 else 1 for number in range(30)]
    write_scores(folder / "records.parquet", answers, folder / "scores.parquet", windows)
    return (
        folder,
        golds,
        answers,
        {title: [p["qas"][0]["id"] for p in paragraphs[n::3]] for n, title in enumerate(titles)},
    )


def test_the_table_holds_every_slice_with_its_means(chain):
    folder, golds, answers, articles = chain
    slices.write_slices(folder / "scores.parquet", folder / "slices.csv")
    with open(folder / "slices.csv", newline="", encoding="utf-8") as stream:
        rows = {(row["kind"], row["slice"]): row for row in csv.DictReader(stream)}
    assert tuple(rows["answerability", "answerable"]) == slices.COLUMNS
    groups = {("article", title): keys for title, keys in articles.items()} | {
        ("answerability", "answerable"): [key for key, texts in golds.items() if texts],
        ("answerability", "unanswerable"): [key for key, texts in golds.items() if not texts],
        ("question word", "when"): list(golds),
        ("answer type", "date"): [key for key, texts in golds.items() if texts],
    }
    for key, ids in groups.items():
        means = [
            100 * plain.fmean(scores.values())
            for scores in raw_scores({i: golds[i] for i in ids}, {i: answers[i] for i in ids})
        ]
        row = rows[key]
        assert int(row["count"]) == len(ids), key
        assert [float(row["exact"]), float(row["f1"])] == pytest.approx(means), key
        assert bool(row["exact_low"]) == bool(row["f1_high"]) == (len(ids) >= slices.LEAST_QUESTIONS), key
    assert {kind for kind, _ in rows} >= {"windows", "context length in words", "answer position in the context"}
    assert sum(int(row["count"]) for (kind, _), row in rows.items() if kind == "windows") == 30
    assert int(rows["windows", "4 or more"]["count"]) == 5
