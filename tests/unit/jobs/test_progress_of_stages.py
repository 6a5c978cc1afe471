"""Every stage that takes long on a million questions says how far it is."""

import logging

import numpy as np
import pytest

import tiny
from qa.common import progress
from qa.common.progress import Progress
from qa.data import hold_out_calibration, prepare_questions
from qa.decoding import calibrate, postprocess
from qa.evaluation import analyze_errors, compare, score, slices
from qa.model.spans import Spans
from qa.training import soft_targets
from qa.windows.read_windows import arrow_table
from qa.windows.tokenize_and_label import tokenize

DECODING = {"method": "n_best", "n_best_size": 4, "max_answer_length": 9, "null_threshold": 0.0}
CALIBRATED = {**DECODING, "calibrate_for": "f1", "unanswerable_prior": None}
PAIRS = [["m/v", "r", "n", "s", "n"]]
ANSWERED = [["r", "seed-1", "m/v", "n"], ["s", "seed-1", "m/v", "n"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records, windows, random spans and answers of some questions, in the working directory of each stage below."""
    folder, rng = tmp_path_factory.mktemp("stages"), np.random.default_rng(1)
    tiny.write_squad(folder / "q.json", questions=24)
    prepare_questions.convert([folder / "q.json"], folder / "r.parquet")
    tokenize(folder / "r.parquet", tiny.word_piece(), tiny.SHORT_WINDOWS, folder / "windows")
    table = arrow_table(folder / "windows")
    spans = Spans.empty(len(table), 6)
    shape = spans.start_index.shape
    spans.start_index[:], spans.end_index[:] = rng.integers(12, 20, shape), rng.integers(14, 24, shape)
    spans.start_logit[:], spans.end_logit[:] = rng.normal(size=(2, *shape))
    spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
    spans.locate(table).write(folder / "spans.parquet")
    postprocess.postprocess([folder / "spans.parquet"], folder / "r.parquet", DECODING, made(folder))
    score.score(*scored(folder), folder / "metrics.json", folder / "scores.parquet")
    return folder


def made(folder):
    kinds = {"answers": "json", "null_scores": "json", "nbest": "parquet", "no_answer_probabilities": "json"}
    return {name: str(folder / f"{name}.{kind}") for name, kind in kinds.items()}


def scored(folder):
    return list(made(folder).values())[:3]


def lines(folder, name, text):
    """A file of questions in another shape than SQuAD's."""
    path = folder / name
    path.write_text(text)
    return [path]


ROW = '{"id": "%s", "question": "Why?", "context": "So.", "answers": []}'
STAGES = {
    "records of SQuAD's JSON": (
        {"read": "items"},
        lambda f, to: prepare_questions.convert([f / "q.json"], to),
    ),
    "records of lines": (
        {"read": "lines"},
        lambda f, to: prepare_questions.convert(lines(f, "l.jsonl", f"{ROW % 1}\n{ROW % 2}"), to),
    ),
    "records of a list": (
        {"read": "items"},
        lambda f, to: prepare_questions.convert(lines(f, "l.json", f"[{ROW % 1}, {ROW % 2}]"), to),
    ),
    "hold_out_calibration": (
        {"hold out": "questions"},
        lambda f, to: hold_out_calibration.divide(f / "r.parquet", 0.3, to, to.with_name("held")),
    ),
    "tokenize_and_label": (
        {"tokenize and label": "questions"},
        lambda f, to: tokenize(f / "r.parquet", tiny.word_piece(), tiny.SHORT_WINDOWS, to),
    ),
    "postprocess": (
        {"decode": "windows", "answer": "questions"},
        lambda f, to: postprocess.postprocess([f / "spans.parquet"], f / "r.parquet", DECODING, made(f)),
    ),
    "score": (
        {"score": "questions", "bootstrap": "resamples"},
        lambda f, to: score.score(*scored(f), to, to.with_name("scores")),
    ),
    "slices": (
        {"read": "questions", "slice": "scores"},
        lambda f, to: slices.write_slices(f / "scores.parquet", to),
    ),
    "errors": (
        {"analyze_errors": "questions"},
        lambda f, to: analyze_errors.write_errors(f / "scores.parquet", to),
    ),
    "compare": (
        {"bootstrap": "resamples", "test differences": "assignments"},
        lambda f, to: compare.compare(PAIRS, ANSWERED, [f / "scores.parquet"] * 2, to),
    ),
    "calibrate": (
        {"decode": "windows", "score": "questions"},
        lambda f, to: calibrate.calibrate([f / "spans.parquet"], [f / "r.parquet"], CALIBRATED, to),
    ),
    "soft_targets": (
        {"decode": "windows"},
        lambda f, to: soft_targets.write_targets([f / "spans.parquet"], f / "windows", 2.0, to),
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_how_far_it_is_up_to_its_end(name, folder, tmp_path, monkeypatch):
    parts, work = STAGES[name]
    states = []
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr(progress, "_save", states.append)
    monkeypatch.setattr(Progress, "last", -np.inf)
    work(folder, tmp_path / "made")
    for label, unit in parts.items():
        counts = [(state.done, state.total) for state in states if (state.label, state.unit) == (label, unit)]
        assert counts and counts[-1][0] == counts[-1][1], label


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_takes_a_moment_stays_silent(name, folder, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "EVERY", 1e9)
    monkeypatch.setattr(Progress, "last", -np.inf)
    STAGES[name][1](folder, tmp_path / "made")
    assert not [record for record in caplog.records if record.name == "qa.common.progress"]
