"""Answers of another system through decoding's files to scores: as texts alone, with probabilities, paraphrased."""

import json
import logging
import math

import pyarrow.parquet as parquet
import pytest

import tiny
from qa.common.errors import InputError
from qa.common.files import read_json
from qa.data.prepare_questions import convert
from qa.decoding import given_answers
from qa.evaluation import analyze_errors, risk_coverage, score, slices
from qa.evaluation.score_files import main as qa_score

CONTEXT = "Mill 1 stands by Mill 12. Ada Venn built it in 1412."
QUESTIONS = {"a": "Ada Venn", "b": "1412", "c": None, "d": "Mill 12"}
FREE = "It was Ada Venn"  # the context does not have it
ANSWERS = {"a": FREE, "b": "", "c": "", "d": "Mill 1"}


@pytest.fixture
def project(tmp_path):
    """A folder with four questions in questions.json and questions.parquet."""
    asked = [
        {
            "id": key,
            "question": "Which?",
            "answers": [{"text": gold, "answer_start": CONTEXT.index(gold)}] if gold else [],
        }
        for key, gold in QUESTIONS.items()
    ]
    data = {"version": "v2.0", "data": [{"title": "Mills", "paragraphs": [{"context": CONTEXT, "qas": asked}]}]}
    (tmp_path / "questions.json").write_text(json.dumps(data))
    convert([tmp_path / "questions.json"], tmp_path / "questions.parquet")
    return tmp_path


def taken(project, content):
    """The metrics of the answers in a file, with every file of theirs made in the project's folder."""
    (project / "given.json").write_text(json.dumps(content))
    suffix = {"nbest": ".parquet"}
    outputs = {name: project / f"{name}{suffix.get(name, '.json')}" for name in tiny.OUTPUTS}
    given_answers.take(project / "given.json", project / "questions.parquet", outputs)
    target = project / "question_scores.parquet"
    metrics = score.score(*list(outputs.values())[:3], project / "metrics.json", target)
    analyze_errors.write_errors(target, project / "errors.parquet")
    slices.write_slices(target, project / "slices.csv")
    risk_coverage.write_risk_coverage(target, project / "risk_coverage.csv")
    return metrics


def rows_of(project, name):
    return {row["id"]: row for row in parquet.read_table(project / f"{name}.parquet").to_pylist()}


def test_texts_alone_get_the_official_scores_and_no_measure_of_confidence(project, monkeypatch):
    metrics = taken(project, ANSWERS)
    monkeypatch.chdir(project)
    assert qa_score(["questions.json", "given.json", "-o", "official.json"]) == 0
    official = read_json("official.json")
    assert {key: metrics[key] for key in official} == official and metrics["answered"] == 50
    assert read_json("answers.json") == ANSWERS and read_json("null_scores.json") == {
        "a": 0,
        "b": 1e6,
        "c": 1e6,
        "d": 0,
    }
    assert read_json("no_answer_probabilities.json") == {"a": 0, "b": 1, "c": 1, "d": 0}
    assert not [key for key in metrics if key.startswith(("best_", "pr_", "ece", "brier", "aurc"))]
    assert metrics["intervals"].keys() == {
        *(p + m for p in ("", "HasAns_", "NoAns_") for m in ("exact", "f1")),
        "answered",
    }
    assert (project / "risk_coverage.csv").read_text() == ",".join(risk_coverage.COLUMNS) + "\n"
    assert "\nwindows," not in (project / "slices.csv").read_text()  # there are none, so no question has one
    rows = rows_of(project, "question_scores")
    places = {key: (row["start"], row["stop"]) for key, row in rows.items()}
    assert places == {"a": (-1, -1), "b": (-1, -1), "c": (-1, -1), "d": (0, 6)}
    assert all(math.isnan(row["probability"]) and row["windows"] == -1 for row in rows.values())
    kinds = {key: row["kind"] for key, row in rows_of(project, "errors").items()}
    assert kinds == {"a": "wrong span", "b": "missed answer", "d": "wrong span"}


def test_probabilities_are_used_as_they_are_given(project):
    sure = {"a": (0.5, 0.25), "b": (0.75, 0.75), "c": (1.0, 1.0), "d": (0.25, None)}
    content = [
        {"id": key, "answer": ANSWERS[key], "probability": p, "null_probability": null}
        for key, (p, null) in sure.items()
    ]
    content[3]["start"] = CONTEXT.index("Mill 12")
    metrics = taken(project, content)
    rows = rows_of(project, "question_scores")
    assert {key: row["probability"] for key, row in rows.items()} == {key: p for key, (p, _) in sure.items()}
    assert {key: row["null_probability"] for key, row in rows.items()} == {"a": 0.25, "b": 0.75, "c": 1, "d": 0.75}
    assert (rows["d"]["start"], rows_of(project, "errors")["d"]["kind"]) == (17, "boundary")
    odds = {"a": math.log(0.25 / 0.5), "b": 1e6, "c": 1e6, "d": math.log(0.75 / 0.25)}
    assert read_json(project / "null_scores.json") == pytest.approx(odds)
    assert read_json(project / "no_answer_probabilities.json") == {"a": 0.25, "b": 0.75, "c": 1, "d": 0.75}
    assert metrics["brier"] == pytest.approx(100 * (0.5**2 + 0.75**2 + 0 + 0.25**2) / 4)  # only c is right
    assert "best_f1" in metrics and "pr_f1_ap" in metrics and "brier_uncalibrated" not in metrics


def test_some_probabilities_are_not_used_and_foreign_ids_are_left_out_with_a_warning(project, caplog):
    content = [{"id": key, "answer": text} for key, text in {**ANSWERS, "x1": "more"}.items()]
    content[0]["probability"] = 0.5
    with caplog.at_level(logging.WARNING):
        metrics = taken(project, content)
    assert metrics["total"] == 4 and "ece" not in metrics
    assert "given.json: 3 answers have no `probability`" in caplog.text
    content[0] = {"id": content[0]["id"], "answer": "", "null_probability": 0.5}  # of no answer alone: not used either
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        taken(project, content)
    assert "given.json: 4 answers have no `probability`" in caplog.text
    assert "given.json: 1 ids are no questions of" in caplog.text and "(x1)" in caplog.text


def test_a_question_without_an_answer_is_an_error_that_leaves_nothing(project):
    with pytest.raises(InputError, match=r"given\.json: nothing for 2 of 4 questions \(b, c\)"):
        taken(project, {"a": "red", "d": ""})
    assert not (project / "answers.json").exists() and not (project / "nbest.parquet").exists()


def test_a_text_that_may_stand_for_no_answer_is_warned_of(project, caplog):
    with caplog.at_level(logging.WARNING):
        metrics = taken(project, {"a": "Ada Venn", "b": "Unanswerable", "c": "Unanswerable", "d": FREE})
    assert metrics["NoAns_exact"] == 0 and "given.json: 'Unanswerable' answers 2 questions whose" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        taken(project, {"a": "Ada Venn", "b": "Mill", "c": "Mill", "d": FREE})
    assert not caplog.text


@pytest.mark.parametrize("text", ["", FREE])
def test_files_whose_answers_are_all_alike_are_scored_too(text, project):
    metrics = taken(project, [{"id": key, "answer": text, "probability": 0.5} for key in QUESTIONS])
    assert metrics["answered"] == (100 if text else 0) and metrics["exact"] == (0 if text else 25)
