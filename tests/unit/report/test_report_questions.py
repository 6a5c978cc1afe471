"""The blocks of the error browser: what they say is what the results say, at the places where a browser looks."""

import json
from collections import Counter
from contextlib import chdir

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_fixture
from qa.common.errors import InputError
from qa.evaluation import question_scores
from qa.report import build, no_answer, page, questions
from qa.report.results import Results, read_table

SPLIT = "made/validation"


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "hostile"])
def made(request, tmp_path_factory):
    """The folder of some results, in which the tests are, and the results."""
    folder = tmp_path_factory.mktemp("made")
    config = report_fixture.make_results(folder, 60, {"base": [1, 2], "large": [1]}, hostile=request.param)
    with chdir(folder):
        yield Results(config)


def cut(text, start, length):
    """What a browser cuts out of a text: places in UTF-16 code units."""
    return text.encode("utf-16-le")[2 * start : 2 * (start + length)].decode("utf-16-le")


def spans(columns, number, places):
    context = columns["contexts"][columns["context"][number]]
    return [cut(context, start, length) for start, length in zip(places[::2], places[1::2], strict=True)]


def test_questions_are_those_of_the_records(made):
    columns, _ = questions.question_columns(made, SPLIT)
    rows = parquet.read_table(made.records(SPLIT)).to_pylist()
    assert len(columns["contexts"]) == len({row["context"] for row in rows})
    for number, row in enumerate(rows):
        assert columns["ids"][number] == row["id"] and columns["questions"][number] == row["question"]
        assert columns["titles"][columns["title"][number]] == row["title"]
        assert columns["contexts"][columns["context"][number]] == row["context"]
        assert Counter(spans(columns, number, columns["gold"][number])) == Counter(set(row["answers"]["text"]))


def test_counts_and_means_are_those_of_the_metrics(made):
    _, asked = questions.question_columns(made, SPLIT)
    for answers in made.answers:
        columns, metrics = questions.answer_columns(answers, asked), answers.metrics()
        assert 100 * columns["kind"].count(0) / len(asked.ids) == pytest.approx(metrics["exact"])
        assert np.mean(columns["f1"]) / 10 == pytest.approx(metrics["f1"], abs=0.05)
        assert 100 * np.mean(columns["answered"]) == pytest.approx(metrics["answered"])
        errors = parquet.read_table(answers.folder / "errors.parquet").to_pylist()
        kinds = {row["id"]: row["kind"] for row in errors}
        assert [questions.KINDS[kind] for kind in columns["kind"]] == [kinds.get(i, "correct") for i in asked.ids]


def test_candidates_are_those_of_the_n_best_lists(made):
    data, asked = questions.question_columns(made, SPLIT)
    answers = made.answers[0]
    columns, texts = questions.answer_columns(answers, asked), answers.texts()
    rows = parquet.read_table(answers.folder / "nbest.parquet").to_pylist()
    first = 0
    for number, row in enumerate(rows):
        own = slice(first, first + columns["count"][number])
        first = own.stop
        places = [cell for pair in zip(columns["start"][own], columns["length"][own], strict=True) for cell in pair]
        listed = row["candidates"][: questions.CANDIDATES]
        assert spans(data, number, places) == [entry["text"] for entry in listed]
        chances = [1000 * entry["probability"] for entry in listed]
        assert columns["probability"][own] == pytest.approx(chances, abs=0.5001)
        assert columns["no_answer"][number] == pytest.approx(1000 * row["null_probability"], abs=0.5001)
        assert texts[row["id"]] == (listed[0]["text"] if columns["answered"][number] else "")
        assert columns["null"][number] == pytest.approx(answers.null_scores()[row["id"]], abs=0.0051)


def test_slices_are_those_of_the_table(made):
    columns, _ = questions.question_columns(made, SPLIT)
    counts = {
        (slicing["kind"], name): slicing["place"].count(number)
        for slicing in columns["slices"]
        for number, name in enumerate(slicing["names"])
    }
    table = {
        (row["kind"], row["slice"]): row["count"]
        for row in read_table(made.answers[0].folder / "slices.csv").to_dict("records")
    }
    assert {key: count for key, count in counts.items() if count} == table


def test_windows_of_models_that_cut_otherwise_are_slices_of_their_own(made, monkeypatch):
    other = made.answers[-1]
    ids = {answers: "other" if answers == other else "usual" for answers in made.answers}
    monkeypatch.setattr(Results, "windows_id", lambda self, answers: ids[answers])
    read = question_scores.read

    def with_two_windows(path, *columns, **named):
        found = read(path, *columns, **named)
        two = {"windows": np.full(60, 2)} if "windows" in found and path.parent == other.folder else {}
        return found | two

    monkeypatch.setattr(question_scores, "read", with_two_windows)
    kinds = {
        s["kind"]: s for s in questions.question_columns(made, SPLIT)[0]["slices"] if s["kind"].startswith("windows")
    }
    assert list(kinds) == ["windows of usual", "windows of other"]
    assert kinds["windows of other"]["place"] == [1] * 60


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), st.data())
def test_places_count_what_browsers_count(context, data):
    ends = sorted(data.draw(st.tuples(*[st.integers(0, len(context))] * 2)))
    asked = questions.SplitQuestions(["q"], ["🦀", context], np.array([1]), {0: np.array([0])})
    astral = questions._astral(context)
    if len(astral):
        asked.astral[1] = astral
    start, stop = asked.in_code_units(np.array([0, 0]), np.array(ends)).tolist()
    assert cut(context, start, stop - start) == context[slice(*ends)]


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert json.loads(questions.as_block({"text": "a\ud83db </script>"})) == {"text": "a?b </script>"}


def test_the_index_names_every_block(made):
    section = questions.section(made, None)
    blocks = dict(section.data)
    index = json.loads(blocks.pop("questions-data"))
    (split,) = index["splits"]
    assert index["kinds"] == list(questions.KINDS) and split["questions"] == 60
    assert {split["block"], *(entry["block"] for entry in split["answers"])} == blocks.keys()
    assert [entry["name"] for entry in split["answers"]][:3] == [
        "base / seed-1 / n_best",
        "base / seed-1 / threshold_0",
        "base / seed-2 / n_best",
    ]
    assert {entry["threshold"] for entry in split["answers"]} == {-0.75, 0.0}
    for entry in split["answers"]:
        kinds = Counter(json.loads(blocks[entry["block"]])["kind"])
        assert entry["counts"] == [kinds[kind] for kind in range(5)]


def test_what_has_no_room_is_named(made, monkeypatch):
    monkeypatch.setattr(questions, "ROOM", 10)
    section = questions.section(made, None)
    (split,) = json.loads(dict(section.data)["questions-data"])["splits"]
    assert [entry["name"] for entry in split["answers"]] == ["base / seed-1 / n_best"]
    assert "5 sets of answers are not on this page" in section.body
    assert "made/validation: large / seed-1 / threshold_0" in section.body


def test_no_text_of_the_data_stands_in_the_page_itself(made, tmp_path):
    page.write(tmp_path / "report.html", "t", "s", [questions.section(made, None)])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "hacked" not in text and "onerror" not in text


@pytest.mark.parametrize("file", ["nbest.parquet", "errors.parquet"])
def test_files_of_other_questions_are_named(made, file):
    _, asked = questions.question_columns(made, SPLIT)
    other = questions.SplitQuestions([f"{name}?" for name in asked.ids], asked.contexts, asked.context, asked.astral)
    reader = questions._nbest if file.startswith("nbest") else questions._outcomes
    with pytest.raises(InputError, match=f"{file}: its questions are not those of {SPLIT}"):
        reader(made.answers[0], other)


def test_without_evaluation_there_is_no_section(made):
    assert questions.section(Results(made.config.model_copy(update={"runs": {}, "ensembles": {}})), None) is None


def test_answers_of_other_systems_are_shown_with_texts_that_no_context_has(tmp_path):
    config = report_fixture.make_results(tmp_path, 24, {"base": [1]}, hostile=True, external=("sure", "plain"))
    with chdir(tmp_path):
        made = Results(config)
        asked_columns, asked = questions.question_columns(made, SPLIT)
        assert [answers.run for answers in made.answers] == ["base", "base", "sure", "plain"]
        for answers in made.answers[2:]:
            columns, texts = questions.answer_columns(answers, asked), list(answers.texts().values())
            at = 0
            for number, text in enumerate(texts):
                if not text:
                    continue
                (cut_out,) = spans(asked_columns, number, [columns["start"][at], columns["length"][at]])
                paraphrased = text.startswith("It is")
                assert (cut_out, columns["texts"].get(at)) == (("", text) if paraphrased else (text, None))
                at += 1
            known = answers.run == "sure"
            assert set(columns["probability"]) == ({750} if known else {None})
            assert {score for score in columns["null"] if score is not None} == ({-1.79} if known else set())
            assert json.loads(questions.as_block(columns))["no_answer"] == columns["no_answer"]
        assert [row["name"].split()[0] for row in no_answer.rows(made, SPLIT)] == ["base", "base", "sure"]
        windows = [each["names"] for each in asked_columns["slices"] if each["kind"] == "windows"]
        assert len(windows) == 1
        build.build(config, "report.html", "figures")
    assert "plain / external / as_given" in (tmp_path / "report.html").read_text()
