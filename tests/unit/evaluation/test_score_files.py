"""The command `qa score`: the official script's arguments and output on every kind of file; errors in one line."""

import csv
import gzip
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa.common.errors import InputError
from qa.data.prepare_questions import gold_texts
from qa.evaluation import score_files

GOLD = {"a": ["Eiffel Tower in Paris"], "b": ["red", "dark red"], "c": [], "d": []}
PREDICTIONS = {"a": "tower", "b": "Dark red.", "c": "", "d": "blue"}
NULL_SCORES = {"a": 0.1, "b": 0.3, "c": 0.7, "d": 0.2}

PLAIN = """\
{
  "exact": 50.0,
  "f1": 60.0,
  "total": 4,
  "HasAns_exact": 50.0,
  "HasAns_f1": 70.0,
  "HasAns_total": 2,
  "NoAns_exact": 50.0,
  "NoAns_f1": 50.0,
  "NoAns_total": 2
}
"""


@pytest.fixture
def folder(tmp_path):
    qas = [{"id": key, "answers": [{"text": text} for text in texts]} for key, texts in GOLD.items()]
    save(tmp_path / "data.json", {"data": [{"paragraphs": [{"qas": qas}]}]})
    save(tmp_path / "pred.json", PREDICTIONS)
    save(tmp_path / "null.json", NULL_SCORES)
    return tmp_path


def save(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(score_files.__file__).parents[2])}
    command = [sys.executable, "-m", "qa.metrics", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def scores_of(folder, *arguments):
    done = run(folder, "data.json", "pred.json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def assert_one_line_error(folder, arguments, *parts):
    before = listing(folder)
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [part for part in parts if part not in done.stderr] == []
    assert listing(folder) == before


@pytest.mark.parametrize("more", [(), ("-v",), ("--verbose",)])
def test_scores_are_printed_with_an_indent_of_two(folder, more):
    done = run(folder, "data.json", "pred.json", *more)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", PLAIN)


def test_any_input_may_be_compressed(folder):
    for name in ("data.json", "pred.json", "null.json"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    packed = run(folder, "data.json.gz", "pred.json.gz", "-n", "null.json.gz")
    assert packed.stdout == run(folder, "data.json", "pred.json", "-n", "null.json").stdout != ""


@pytest.mark.parametrize("option", ["-o", "--out-file"])
def test_an_output_file_holds_the_scores_on_one_line_and_nothing_is_printed(folder, option):
    (folder / "eval.json").write_text("old")
    done = run(folder, "data.json", "pred.json", option, "eval.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "eval.json").read_text() == json.dumps(json.loads(PLAIN))
    assert listing(folder) == ["data.json", "eval.json", "null.json", "pred.json"]


def test_an_output_file_behind_a_link_is_written_through_it(folder):
    (folder / "link.json").symlink_to("eval.json")
    assert run(folder, "data.json", "pred.json", "-o", "link.json").returncode == 0
    assert (folder / "link.json").is_symlink()
    assert json.loads((folder / "eval.json").read_text()) == json.loads(PLAIN)


def test_an_output_pipe_is_written_to_and_not_replaced(folder):
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run(folder, "data.json", "pred.json", "-o", "pipe").returncode == 0
        assert json.loads(os.read(reader, 65536)) == json.loads(PLAIN)
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize("option", ["-n", "--na-prob-file"])
def test_null_scores_add_the_best_thresholds(folder, option):
    scores = scores_of(folder, option, "null.json")
    expected = {"best_exact": 50.0, "best_exact_thresh": 0.0, "best_f1": 60.0, "best_f1_thresh": 0.1}
    assert list(scores.items()) == [*json.loads(PLAIN).items(), *expected.items()]


@pytest.mark.parametrize("option", ["-t", "--na-prob-thresh"])
def test_a_threshold_empties_the_answers_above_it(folder, option):
    scores = scores_of(folder, "-n", "null.json", option, "0.15")
    assert [scores[key] for key in ("exact", "HasAns_f1", "NoAns_exact")] == [50.0, 20.0, 100.0]
    assert scores_of(folder, option, "-1")["NoAns_exact"] == 100.0  # without null scores each question has 0


def test_f1_may_count_characters_and_the_output_says_so(folder):
    scores = scores_of(folder, "--f1-by", "characters", "-n", "null.json", "-p", "curves")
    assert (scores["f1_by"], scores["exact"]) == ("characters", 50.0)
    assert scores["HasAns_f1"] == pytest.approx((100 * 2 * 5 / (18 + 5) + 100) / 2)
    rows = list(csv.DictReader((folder / "curves" / "pr_f1.csv").open(newline="")))
    assert float(rows[1]["precision"]) == pytest.approx(2 * 5 / (18 + 5))
    assert "f1_by" not in scores_of(folder, "--f1-by", "words")


@pytest.mark.parametrize("option", ["-p", "--out-image-dir"])
def test_a_folder_for_curves_adds_average_precisions_and_csv_files(folder, option):
    scores = scores_of(folder, "-n", "null.json", option, "new/curves")
    assert list(scores)[-3:] == ["pr_exact_ap", "pr_f1_ap", "pr_oracle_ap"]
    assert scores["pr_exact_ap"] == pytest.approx(100 / 6)
    names = ["na_prob_hist_hasAns.csv", "na_prob_hist_noAns.csv", "pr_exact.csv", "pr_f1.csv", "pr_oracle.csv"]
    assert listing(folder / "new" / "curves") == names
    rows = list(csv.reader((folder / "new" / "curves" / "pr_exact.csv").open(newline="")))
    assert rows[:3] == [["null_score", "precision", "recall"], ["-inf", "1.0", "0.0"], ["0.1", "0.0", "0.0"]]
    area = sum(float(b[1]) * (float(b[2]) - float(a[2])) for a, b in pairwise(rows[1:]))
    assert 100 * area == pytest.approx(scores["pr_exact_ap"])
    bins = list(csv.DictReader((folder / "new" / "curves" / "na_prob_hist_hasAns.csv").open(newline="")))
    assert {row["from"]: float(row["proportion"]) for row in bins if float(row["proportion"])} == {
        "0.1": 0.5,
        "0.3": 0.5,
    }


def test_histograms_reach_as_far_as_the_null_scores_do(folder):
    save(folder / "null.json", {"a": -3.0, "b": 0.5, "c": 7.0, "d": 2})
    scores_of(folder, "-n", "null.json", "-p", "curves")
    for name in ("hasAns", "noAns"):
        rows = list(csv.DictReader((folder / "curves" / f"na_prob_hist_{name}.csv").open(newline="")))
        assert (rows[0]["from"], rows[-1]["to"]) == ("-3.0", "7.0")
        assert sum(float(row["proportion"]) for row in rows) == pytest.approx(1.0)


def test_a_folder_for_curves_keeps_the_files_it_held(folder):
    (folder / "curves").mkdir()
    (folder / "curves" / "mine.txt").write_text("kept")
    scores_of(folder, "-n", "null.json", "-p", "curves")
    assert (folder / "curves" / "mine.txt").read_text() == "kept"


def test_a_folder_for_curves_without_null_scores_is_noted_and_changes_nothing(folder):
    done = run(folder, "data.json", "pred.json", "-p", "curves")
    assert (done.returncode, done.stdout) == (0, PLAIN)
    assert done.stderr == "note: --out-image-dir needs --na-prob-file; no curves are written\n"
    assert not (folder / "curves").exists()


def test_help_says_that_curves_are_csv_files(folder):
    done = run(folder, "--help")
    assert done.returncode == 0
    assert "CSV files (no images" in " ".join(done.stdout.split())


def test_a_question_without_a_prediction_is_an_error(folder):
    save(folder / "pred.json", {"a": "tower", "c": ""})
    assert_one_line_error(folder, ["data.json", "pred.json", "-o", "eval.json"], "pred.json", "2 of 4", "b, d")


def test_a_prediction_for_an_unknown_id_is_an_error(folder):
    save(folder / "pred.json", PREDICTIONS | {"stranger\nx": "red"})
    assert_one_line_error(folder, ["data.json", "pred.json"], "pred.json", "stranger")


def test_null_scores_that_lack_a_question_are_an_error(folder):
    save(folder / "null.json", {"a": 0.5, "b": 0.5, "d": 0.5})
    assert_one_line_error(folder, ["data.json", "pred.json", "-n", "null.json", "-p", "curves"], "null.json", "(c)")


def test_values_of_the_wrong_kind_are_an_error(folder):
    save(folder / "null.json", NULL_SCORES | {"c": "high"})
    assert_one_line_error(folder, ["data.json", "pred.json", "-n", "null.json"], "null.json", "(c)", "finite number")
    save(folder / "pred.json", PREDICTIONS | {"b": None})
    assert_one_line_error(folder, ["data.json", "pred.json"], "pred.json", "(b)", "a text")


def test_a_missing_or_broken_file_is_an_error(folder):
    (folder / "broken.json").write_text("{")
    (folder / "subfolder").mkdir()
    for name in ("absent.json", "absent.json.gz", "broken.json", "subfolder"):
        assert_one_line_error(folder, ["data.json", name], name)
        assert_one_line_error(folder, [name, "pred.json"], name)


def test_an_output_that_cannot_be_written_is_an_error(folder):
    (folder / "taken").mkdir()
    assert_one_line_error(folder, ["data.json", "pred.json", "-o", "taken"], "taken")
    assert_one_line_error(folder, ["data.json", "pred.json", "-o", "pred.json/eval.json"], "pred.json")
    assert_one_line_error(folder, ["data.json", "pred.json", "-n", "null.json", "-p", "pred.json"], "pred.json")


@pytest.mark.parametrize("arguments", [[], ["data.json"], ["data.json", "pred.json", "-t", "high"], ["a", "b", "--x"]])
def test_bad_usage_exits_with_two(folder, arguments):
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: qa score" in done.stderr


def test_a_histogram_puts_each_score_in_the_bin_that_starts_at_or_below_it():
    rows = score_files.histogram([0.0, 0.049, 0.05, 0.15, 1.0], 0.0, 1.0)
    assert [row[:2] for row in rows] == [(i / 20, (i + 1) / 20) for i in range(20)]
    assert {i: row[2] for i, row in enumerate(rows) if row[2]} == {0: 0.4, 1: 0.2, 3: 0.2, 19: 0.2}


@given(st.lists(st.floats(-50, 50), min_size=1), st.floats(-60, -50), st.floats(50, 60))
def test_a_histogram_holds_every_score(scores, low, high):
    rows = score_files.histogram(scores, low, high)
    assert (rows[0][0], rows[-1][1], len(rows)) == (low, high, 20)
    for start, end, proportion in rows[:-1]:
        assert proportion == sum(start <= score < end for score in scores) / len(scores)
    assert sum(row[2] for row in rows) == pytest.approx(1.0)


def squad(*questions):
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": list(questions)}]}]}


def question(key, *texts):
    return {"id": key, "question": "?", "answers": [{"text": text, "answer_start": 0} for text in texts]}


def test_gold_answers_keep_the_order_and_every_text(tmp_path):
    data = squad(question("z", "red", "the", "red"), question("a"))
    data["data"].append({"paragraphs": [{"qas": [question("m", "é")]}]})
    plain, packed = tmp_path / "data.json", tmp_path / "data.json.gz"
    plain.write_text(json.dumps(data), encoding="utf-8")
    packed.write_bytes(gzip.compress(json.dumps(data, ensure_ascii=False).encode()))
    expected = [("z", ["red", "the", "red"]), ("a", []), ("m", ["é"])]
    assert list(gold_texts(plain).items()) == expected
    assert list(gold_texts(packed).items()) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (squad(question("a"), question("b"), question("a")), r"qas\[2\]: id 'a' occurs twice"),
        (squad({"id": "a", "question": "?"}), "id 'a': `answers` is missing"),
        (squad({"id": "a", "answers": [{"answer_start": 0}]}), "id 'a': an answer needs a text"),
        (squad({"id": "a", "answers": [{"text": 5}]}), "id 'a': an answer needs a text"),
        (squad(question("a"), {"answers": []}), r"qas\[1\] has no `id`"),
        (squad("a"), r"qas\[0\] is no object"),
        (squad(), "no question"),
        ({"data": [{"paragraphs": None}]}, "has no list `paragraphs`"),
        ({"answers": []}, "neither SQuAD JSON"),
        (None, "neither SQuAD JSON"),
    ],
)
def test_unsound_data_is_an_error_that_names_file_and_id(tmp_path, data, message):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        gold_texts(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"{", mtime=0)[:-4], gzip.compress(b"{", mtime=0)])
@pytest.mark.parametrize("read", [gold_texts, score_files.read_predictions])
def test_a_broken_gzip_file_is_an_error_that_names_it(read, tmp_path, content):
    path = tmp_path / "data.json.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"data\.json\.gz: "):
        read(path)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (score_files.read_predictions, '["red"]', "not a JSON object"),
        (score_files.read_predictions, '{"a": "red", "b": null, "c": 1}', r"not a text for 2 ids \(b, c\)"),
        (score_files.read_null_scores, '"red"', "not a JSON object"),
        (score_files.read_null_scores, '{"a": "0.5"}', r"not a finite number for 1 ids \(a\)"),
        (score_files.read_null_scores, '{"a": NaN, "b": Infinity, "c": true, "d": 1}', r"\(a, b, c\)"),
        (score_files.read_null_scores, '{"a": ' + "9" * 400 + "}", r"\(a\)"),
    ],
)
def test_values_of_the_wrong_kind_are_errors_that_name_file_and_id(tmp_path, read, text, message):
    path = tmp_path / "values.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_every_kind_of_file_is_scored_alike_and_whole_numbers_are_ids(folder):
    rows = [
        {"id": number, "context": "red", "question": "?", "answer_text": text} for number, text in ((1, "red"), (2, ""))
    ]
    save(folder / "pred.json", {"1": "red", "2": "red"})
    answers = [[{"text": row["answer_text"]}] if row["answer_text"] else [] for row in rows]
    qas = [{"id": row["id"], "answers": golds} for row, golds in zip(rows, answers, strict=True)]
    save(folder / "nested.json", {"data": [{"paragraphs": [{"context": "red", "qas": qas}]}]})
    (folder / "lines.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    (folder / "table.csv").write_text("\n".join(["id;context;question;answer_text", "1;red;?;red", "2;red;?;"]))
    pd.DataFrame(rows).to_parquet(folder / "table.parquet")
    for name in ("nested.json", "lines.jsonl.gz", "table.csv", "table.parquet"):
        printed = run(folder, name, "pred.json").stdout
        assert json.loads(printed) | {"exact": 50.0, "HasAns_exact": 100.0, "NoAns_exact": 0.0} == json.loads(printed)


def test_scoring_json_loads_no_heavy_library(folder):
    heavy = {"torch", "transformers", "pandas", "datasets", "numpy", "pyarrow", "pydantic"}
    code = "import sys; from qa.evaluation.score_files import main; main(['data.json', 'pred.json']); "
    code += f"sys.exit(str({heavy!r} & set(sys.modules)) if {heavy!r} & set(sys.modules) else 0)"
    environment = {**os.environ, "PYTHONPATH": str(Path(score_files.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", PLAIN)
