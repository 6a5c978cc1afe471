"""The report's section on slices: what each costs, and which come first."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from qa.common.files import read_json
from qa.report import slices
from qa.report.figures import Figures
from qa.report.results import Answers, Results
from report_fixture import HOSTILE, make_results

SPLIT = "made/validation"
ANSWERS = Answers("base", "seed-1", SPLIT, "n_best")
FILE = ANSWERS.folder / "slices.csv"
SAVED = "slices+made+validation"


def table_of(body, name):
    """The cells of a run's table."""
    part = body[body.index(f"<strong>{name}</strong>") :]
    rows = re.findall(r"<tr><td>(.*?)</tr>", part[: part.index("</table>")], re.S)
    return [re.split(r"</t[dh]>\s*<t[dh][^>]*>", row.removesuffix("</td>")) for row in rows]


def test_a_slice_costs_what_its_questions_are_below_the_mean(results):
    found = slices.costs(ANSWERS)
    table, mean = pd.read_csv(FILE), read_json(ANSWERS.folder / "metrics.json")["f1"]
    expected = {(r["kind"], r["slice"]): r["count"] * (mean - r["f1"]) / 100 for r in table.to_dict("records")}
    assert {(row["kind"], row["slice"]): row["cost"] for row in found.to_dict("records")} == pytest.approx(expected)
    assert found["cost"].is_monotonic_decreasing and len(found) == len(table)


@pytest.mark.parametrize("kind", ["answerability", "question word", "context length in words", "windows", "article"])
def test_costs_of_a_kind_that_divides_all_questions_add_up_to_nothing(kind, results):
    found = slices.costs(ANSWERS)
    assert found.loc[found["kind"] == kind, "count"].sum() == 90
    assert found.loc[found["kind"] == kind, "cost"].sum() == pytest.approx(0, abs=1e-9)


def test_the_figure_shows_the_costliest_slices_of_the_best_answers(results, tmp_path):
    slices.section(results, Figures(tmp_path))
    scored = {answers: answers.metrics()["f1"] for answers in results.one_of_each(SPLIT)}
    best = max(scored, key=scored.__getitem__)
    saved = pd.read_csv(tmp_path / f"{SAVED}.csv", keep_default_na=False, na_values=[""])
    expected = slices.costs(best)[: len(saved)]
    assert best.run == "large" and 2 <= len(saved) <= slices.MOST_DRAWN and saved["cost"].min() >= slices.LEAST_COST
    pd.testing.assert_frame_equal(saved.drop(columns="f1_of_all"), expected[[*saved.columns[:-1]]], check_dtype=False)
    assert set(saved["f1_of_all"]) == {scored[best]}


def test_what_is_drawn_is_what_is_saved(results, tmp_path):
    slices.section(results, Figures(tmp_path))
    saved = pd.read_csv(tmp_path / f"{SAVED}.csv", keep_default_na=False, na_values=[""])
    axes = Figure().subplots()
    slices._draw(axes, saved)
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    intervals = [list(line.get_xdata()) for line in axes.lines[1:] if line.get_marker() != "o"]
    assert points == saved["f1"].tolist()
    np.testing.assert_array_equal(intervals, saved[["f1_low", "f1_high"]].dropna())
    texts = [text.get_text() for text in axes.texts]
    assert texts[: len(saved)] == [f"{row.kind}: {row.slice}" for row in saved.itertuples()]
    assert texts[len(saved) :] == [f"−{cost:.1f}" for cost in saved["cost"]]


def test_each_run_and_decoding_has_its_table_the_best_first(results, tmp_path):
    body = slices.section(results, Figures(tmp_path)).body
    names = re.findall(r"<summary><strong>(.*?)</strong>", body)
    assert sorted(names) == [answers.name for answers in results.one_of_each(SPLIT)]
    scored = {answers.name: answers.metrics()["f1"] for answers in results.answers}
    assert sorted(names, key=scored.__getitem__, reverse=True) == names
    cells = table_of(body, ANSWERS.name)
    first = slices.costs(ANSWERS).iloc[0]
    assert cells[0][:3] == [first["kind"], first["slice"], str(first["count"])]
    assert cells[0][4].startswith(f"{first['f1']:.2f}") and cells[0][5] == f"{first['cost']:.1f}"
    assert len(cells) == len(pd.read_csv(FILE))


def test_long_tables_are_cut_and_many_are_left_out_and_the_page_says_so(results, tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "MOST_ROWS", 3)
    monkeypatch.setattr(slices, "MOST_TABLES", 1)
    body = slices.section(results, Figures(tmp_path)).body
    assert body.count("<details><summary>Data") == 1 and len(re.findall(r"<summary><strong>", body)) == 1
    assert "The 3 costliest slices" in body and "/slices.csv" in body and "The tables of 3 more are in" in body


def test_a_run_without_weak_slices_has_no_figure(results, tmp_path, monkeypatch):
    flat = pd.DataFrame({"kind": ["windows"], "slice": ["1"], "count": [90], "f1": [50.0], "f1_low": [40.0]})
    flat = flat.assign(f1_high=60.0, exact=1.0, exact_low=0.0, exact_high=2.0)
    monkeypatch.setattr(slices, "read_table", lambda file: flat.copy())
    monkeypatch.setattr(Answers, "metrics", lambda self: {"f1": 50.0})
    body = slices.section(results, Figures(tmp_path)).body
    assert "No slice is worse than the average" in body and "<figure>" not in body and not list(tmp_path.iterdir())


def test_hostile_titles_stand_there_as_they_are(tmp_path, monkeypatch):
    config = make_results(tmp_path, questions=80, hostile=True, runs={"base": [1]})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figures").mkdir()
    body = slices.section(Results(config), Figures(tmp_path / "figures")).body
    assert not any(text in body for text in HOSTILE if "<" in text)
    assert "&lt;/script&gt;&lt;script&gt;" in body and "article" in body


def test_without_answers_there_is_no_section(results, tmp_path):
    assert slices.section(Results(results.config.model_copy(update={"runs": {}})), Figures(tmp_path)) is None
