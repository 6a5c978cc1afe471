"""metrics.json from the files of a decoding: the official metrics, and the best texts out of the n-best lists."""

import json
import math
import os
import re

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from qa.common import checksums
from qa.data.prepare_questions import convert, gold_texts
from qa.decoding import nbest
from qa.evaluation import question_scores, summarize
from qa.evaluation.score import score
from qa.metrics import squad


def data(titles):
    """SQuAD v2.0 JSON: an article a title, with one question that has an answer and one that has none."""
    articles = []
    for number, title in enumerate(titles):
        context = f'In {1900 + number} the "old" mill burnt.'
        asked = [
            {"id": f"a{number}", "question": "When?", "answers": [{"text": str(1900 + number), "answer_start": 3}]},
            {"id": f"b{number}", "question": "Why?", "answers": []},
        ]
        asked = [{**question, "is_impossible": not question["answers"]} for question in asked]
        articles.append({"title": title, "paragraphs": [{"context": context, "qas": asked}]})
    return {"version": "v2.0", "data": articles}


def files(folder, titles):
    """Records and the three files of a decoding, whose n-best lists begin with another text where it is silent."""
    (folder / "q.json").write_text(json.dumps(data(titles)))
    convert([folder / "q.json"], folder / "records.parquet")
    records = {row["id"]: row for row in parquet.read_table(folder / "records.parquet").to_pylist()}
    answers, null_scores, best = {}, {}, {}
    for number in range(len(titles)):
        best |= {f"a{number}": str(1900 + number), f"b{number}": '"old" mill'}
        null_scores |= {f"a{number}": number % 3 - 1.5, f"b{number}": number % 5 - 1.5}
    answers = {key: text if null_scores[key] <= 0 else "" for key, text in best.items()}
    lines = [
        {
            **{name: records[key][name] for name in ("id", "title", "question", "context")},
            "gold": [{"text": text, "start": 3} for text in records[key]["answers"]["text"]],
            "windows": 2,
            "null_score": 0.5,
            "null_probability": 0.1,
            "candidates": [{"text": text, "start": 3, "stop": 7, "score": 1.0, "probability": 0.4}] * 2,
        }
        for key, text in best.items()
    ]
    names = {"answers": answers, "null_scores": null_scores}
    for name, values in names.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    with nbest.writer(folder / "nbest.parquet") as file:
        file.write_table(pa.Table.from_pylist(lines, file.schema))
    paths = {name: str(folder / f"{name}.json") for name in names} | {"nbest": str(folder / "nbest.parquet")}
    return paths, {"answers": answers, "null_scores": null_scores, "best": best}


def test_metrics_are_the_official_ones_with_thresholds_over_the_best_texts(tmp_path):
    paths, values = files(tmp_path, [f"t{number}" for number in range(12)])
    found = score(*paths.values(), tmp_path / "metrics.json", tmp_path / "scores.parquet")
    gold = gold_texts(tmp_path / "q.json")
    official = squad.official_metrics(
        gold, values["answers"], values["null_scores"], math.inf, best_texts=values["best"], average_precision=True
    )
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    sure = ["ece", "brier", "aurc"]
    sure += [f"{name}_uncalibrated" for name in sure]
    assert list(found) == [*official, "answered", *sure, "intervals", "interval"]
    assert all(0 <= found[name] <= 100 for name in sure)
    assert {key: found[key] for key in official} == official and official["best_exact"] > official["exact"]
    assert found["interval"]["resampled"] == "articles"
    for name, (low, high) in found["intervals"].items():
        assert low < high and (low < found[name] < high or name.startswith("ece"))  # its bias is taken off
    assert found["interval"]["resamples_of_confidence"] == 200
    rows = parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    assert {row["id"]: row["answer"] for row in rows} == values["answers"]
    assert [100 * sum(row[name] for row in rows) / len(rows) for name in ("exact", "f1")] == [
        found["exact"],
        found["f1"],
    ]
    for row in rows:
        kept = bool(row["answer"])
        places = [row[name] for name in ("start", "stop", "windows", "probability", "null_probability", "null_score")]
        assert places == [*((3, 7) if kept else (-1, -1)), 2, 0.4 if kept else 0.1, 0.1, 0.5]
        assert 0 < row["uncalibrated_probability"] < 1
        assert bool(row["gold"]) == row["id"].startswith("a") and row["context"].endswith("mill burnt.")
    assert question_scores.number_of_questions(tmp_path / "scores.parquet") == len(rows)


def test_f1_by_characters_is_that_of_every_file_and_marked_in_the_metrics(tmp_path):
    paths, values = files(tmp_path, ["one", "two"])
    (tmp_path / "answers.json").write_text(json.dumps(values["answers"] | {"a0": "1900", "b0": ""}))
    golds = {"a0": ["19 0"], "a1": ["1901"], "b0": [], "b1": []}
    table = parquet.read_table(paths["nbest"]).to_pylist()
    for row in table:
        row["gold"] = [{"text": text, "start": 3} for text in golds[row["id"]]]
    with nbest.writer(paths["nbest"]) as file:
        file.write_table(pa.Table.from_pylist(table, file.schema))
    found = score(*paths.values(), tmp_path / "metrics.json", tmp_path / "scores.parquet", "characters")
    rows = {row["id"]: row["f1"] for row in parquet.read_table(tmp_path / "scores.parquet").to_pylist()}
    assert rows["a0"] == 6 / 7 and found["f1"] == 100 * sum(rows.values()) / 4
    assert found["best_f1"] > found["best_exact"]
    assert json.loads((tmp_path / "metrics.json").read_text())["f1_by"] == "characters"


def test_questions_of_few_articles_are_drawn_one_by_one(tmp_path):
    paths, _ = files(tmp_path, ["one", "two"])
    found = score(*paths.values(), tmp_path / "metrics.json", tmp_path / "scores.parquet")
    assert found["interval"]["resampled"] == "questions"


def test_a_limit_is_marked_in_the_metrics_the_table_and_the_closing_message(tmp_path):
    paths, _ = files(tmp_path, ["one", "two"])
    limits = {"mine": 200, "other": 50}
    metrics = [str(tmp_path / f"{name}.json") for name in ("tried", "whole")]
    for file, found in zip(metrics, (limits, {}), strict=True):
        assert score(*paths.values(), file, tmp_path / "scores.parquet", limits=found).get("limits", {}) == found
    summary = tmp_path / "summary.csv"
    scored = [("tried", "seed-1", "mine/dev", "n"), ("whole", "seed-1", "big/dev", "n")]
    table = summarize.summarize(scored, metrics, summary)
    assert list(table["limits"].fillna("")) == ["mine: 200, other: 50", ""]
    (line,) = summarize.warnings(summary)
    assert "tried" in line and "mine: 200" in line and "whole" not in line
    assert line in summarize.closing_message(summary)


def test_questions_that_misaligned_answers_changed_are_counted_and_warned_of(tmp_path):
    paths, _ = files(tmp_path, ["one", "two"])
    counts = {}
    for misaligned in ("realign", "drop"):
        changed = data(["one", "two"])
        changed["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 0
        (tmp_path / "q.json").write_text(json.dumps(changed))
        convert([tmp_path / "q.json"], tmp_path / "changed.parquet", misaligned)
        questions = {"questions": tmp_path / "changed.parquet"}
        found = score(*paths.values(), tmp_path / f"{misaligned}.json", tmp_path / "scores.parquet", **questions)
        counts[misaligned] = {name: found[name] for name in summarize.MISALIGNED if name in found}
    assert counts == {"realign": {"realigned_answers": 1}, "drop": {"dropped_questions": 1, "dropped_answers": 1}}
    scored = [(name, "seed-1", f"{name}/dev", "n") for name in counts]
    table = summarize.summarize(scored, [str(tmp_path / f"{name}.json") for name in counts], tmp_path / "summary.csv")
    assert table["dropped_questions"].fillna(0).tolist() == [0, 1]
    moved, dropped = summarize.warnings(tmp_path / "summary.csv")
    assert moved == "realign/dev: not all questions are as in the files (gold answers moved: 1)"
    assert dropped.startswith("drop/dev: ") and "(questions left out: 1, gold answers left out: 1)" in dropped
    score(*paths.values(), tmp_path / "m.json", tmp_path / "scores.parquet", questions=tmp_path / "records.parquet")
    assert not summarize.MISALIGNED.keys() & json.loads((tmp_path / "m.json").read_text()).keys()


def test_questions_about_contexts_of_training_are_counted_and_warned_of(tmp_path):
    paths, _ = files(tmp_path, ["one", "two", "three"])
    trained_on = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for file, titles in zip(trained_on, (["one"], ["one", "two"]), strict=True):
        (tmp_path / "t.json").write_text(json.dumps(data(titles)))
        convert([tmp_path / "t.json"], file)
    metrics = [str(tmp_path / f"{name}.json") for name in ("split by question", "split by article")]
    for file, others, number in zip(metrics, (trained_on, []), (4, None), strict=True):
        found = score(*paths.values(), file, tmp_path / "scores.parquet", trained_on=others)
        assert found.get("trained_contexts") == number
    scored = [("leaky", "seed-1", "mine/dev", "n"), ("clean", "seed-1", "mine/dev", "n")]
    summarize.summarize(scored, metrics, tmp_path / "summary.csv")
    (line,) = summarize.warnings(tmp_path / "summary.csv")
    assert line.startswith("leaky: 4 of 6 questions of mine/dev ")


@pytest.mark.parametrize(("kept", "lacking"), [("a", "unanswerable F1"), ("b", "answerable F1")])
def test_the_closing_message_has_the_scores_of_questions_that_all_have_an_answer_or_all_have_none(
    kept, lacking, tmp_path
):
    paths, _ = files(tmp_path, ["one", "two"])
    for name in ("answers", "null_scores"):
        values = json.loads((tmp_path / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps({key: values[key] for key in values if key[0] == kept}))
    table = parquet.read_table(paths["nbest"])
    with nbest.writer(tmp_path / "nbest.parquet") as file:
        file.write_table(table.filter([key.startswith(kept) for key in table["id"].to_pylist()]).cast(file.schema))
    score(*paths.values(), tmp_path / "m.json", tmp_path / "scores.parquet")
    summarize.summarize([("r", "seed-1", "mine/dev", "n")], [str(tmp_path / "m.json")], tmp_path / "summary.csv")
    header, row = (re.split("  +", line) for line in summarize.as_text(tmp_path / "summary.csv").splitlines()[:2])
    assert dict(zip(header, row, strict=True))[lacking] == "-"
    assert "Scores in percent" in summarize.closing_message(tmp_path / "summary.csv")
    blind = [line for line in summarize.warnings(tmp_path / "summary.csv") if "no question has an answer" in line]
    assert [line.partition(":")[0] for line in blind] == ["mine/dev"] * (kept == "b")


@pytest.mark.parametrize(("questions", "warns"), [(82, True), (499, True), (500, False)])
def test_a_threshold_of_few_questions_is_warned_of_at_the_end(questions, warns, tmp_path):
    paths, _ = files(tmp_path, ["one", "two"])
    score(*paths.values(), tmp_path / "m.json", tmp_path / "scores.parquet")
    (tmp_path / "c.json").write_text(json.dumps({"exact": 1.0, "f1": 2.0, "questions": questions}))
    scored = [(run, f"seed-{seed}", "mine/dev", "n") for run in ("a", "fixed") for seed in (1, 2)]
    calibrations = {("a", f"seed-{seed}", "n"): str(tmp_path / "c.json") for seed in (1, 2)}
    summary = tmp_path / "summary.csv"
    table = summarize.summarize(scored, [str(tmp_path / "m.json")] * 4, summary, calibrations=calibrations)
    assert table["calibration_questions"].tolist()[0] == questions and "calibration_questions_std" not in table
    lines = summarize.warnings(summary)
    assert len(lines) == warns
    assert all(line.startswith("a/n: ") and f"{questions} questions" in line for line in lines)


def test_the_closing_message_names_the_report_where_there_is_one(tmp_path):
    row = {"run": "r", "dataset": "d", "split": "s", "decoding": "n", "seeds": "1"}
    row |= {f"{name}_{part}": "50" for name in ("exact", "f1", "HasAns_f1", "NoAns_f1") for part in ("mean", "std")}
    summary = tmp_path / "summary.csv"
    summary.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    assert "report.html" not in summarize.closing_message(summary)
    (tmp_path / "report.html").write_text("<!doctype html>")
    assert summarize.closing_message(summary).endswith(f"Report:  {tmp_path / 'report.html'}\n")


def test_a_table_that_is_older_than_its_scores_is_not_shown_but_the_target_that_mends_it(tmp_path):
    row = {"run": "r", "dataset": "d", "split": "s", "decoding": "n", "seeds": "1", "exact_mean": "12.34"}
    row |= {f"{name}_mean": "50" for name in ("f1", "HasAns_f1", "NoAns_f1")}
    row |= {f"{name}_std": "" for name in ("exact", "f1", "HasAns_f1", "NoAns_f1")}
    summary, metrics = tmp_path / "summary.csv", tmp_path / "metrics.json"
    summary.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    metrics.write_text("{}")
    for age, bytes_then, shown in ((1, "", True), (-1, "", False), (-1, "{}", True), (-1, "[]", False)):
        if bytes_then:  # Snakemake does not make it anew for a newer file of the same bytes
            metrics.write_text(bytes_then)
            checksums.record_sources(summary, [metrics])
            metrics.write_text("{}")
        os.utime(metrics, (summary.stat().st_mtime - age,) * 2)
        message = summarize.closing_message(summary, sources=[str(metrics), str(tmp_path / "not made")])
        assert ("12.34" in message) == shown
        assert (f"The target {summary} brings it up to date" in message) != shown
    summary.touch()
    for run, shown in (("r", True), ("other", False)):
        message = summarize.closing_message(summary, scored=[(run, "seed-1", "d/s", "n")])
        assert ("12.34" in message) == shown and ("it is of another configuration" in message) != shown
