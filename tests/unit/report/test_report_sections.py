"""The report's tables against the files they are from: overview, comparison, workflow, and the page around them."""

import base64
import gzip
import hashlib
import re
from contextlib import chdir
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import report_fixture
from qa.config import schema, settings
from qa.report import build, comparison, overview, page, stages
from qa.report.figures import Figures
from qa.report.ranking import rankings
from qa.report.results import FOLDER, Results, read_table

pytestmark = pytest.mark.slow

SPLIT = "made/validation"


@pytest.fixture
def figures(tmp_path):
    return Figures(tmp_path)


class Words(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags = [], []
        self.feed(str(text))

    def handle_data(self, data):
        self.words.append(data)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def text_of(html):
    return " ".join(" ".join(Words(html).words).split())


def test_scores_are_the_means_over_seeds_of_metrics_and_of_the_ends_of_their_intervals(results):
    table = overview.scores(results.of_split("made/validation")).set_index(["run", "decoding"])
    row, both = (
        table.loc[("base", "n_best")],
        [a.metrics() for a in results.answers if a.name.startswith("base") and a.decoding == "n_best"],
    )
    assert row["seeds"] == 2 and row["f1"] == pytest.approx((both[0]["f1"] + both[1]["f1"]) / 2)
    assert row["f1_low"] == pytest.approx(sum(metrics["intervals"]["f1"][0] for metrics in both) / 2)
    assert row["f1_deviation"] == pytest.approx(abs(both[0]["f1"] - both[1]["f1"]) / 2**0.5)
    assert table.loc[("large", "n_best"), "f1_deviation"] != table.loc[("large", "n_best"), "f1_deviation"]
    summary = pd.read_csv("results/summary.csv").set_index(["run", "decoding"])
    assert row["exact"] == pytest.approx(summary.loc[("base", "n_best"), "exact_mean"])


def test_the_overview_names_the_highest_score_and_what_stages_took(results, figures):
    text = text_of(overview.section(results, figures).body)
    highest = overview.scores(results.of_split(SPLIT)).nlargest(1, "f1").iloc[0]
    assert f"{highest['run']} / {highest['decoding']} has the highest F1" in text and f"{highest['f1']:.1f}" in text
    assert all(rule in text for rule in read_table(FOLDER / "resource_usage.csv")["rule"].unique())
    assert (figures.folder / "scores-1.png").stat().st_size > 1_000


def test_a_quick_try_is_told_at_the_top():
    splits = {"splits": {"train": "train.json", "validation": "validation.json"}}
    run = {"model": "m", "train_on": "few/train", "evaluate_on": ["whole/validation"], "decodings": ["n_best"]}
    parts = {"models": {"m": {"path": "m"}}, "decodings": {"n_best": {"method": "n_best"}}, "runs": {"r": run}}
    for limit in (None, 9):
        config = settings.resolve({**parts, "datasets": {"few": {**splits, "limit": limit}, "whole": splits}})
        assert ("few: 9" in overview.subtitle(Results(config))) == bool(limit)


def test_a_split_without_any_gold_answer_is_warned_of():
    metrics = {"blind/test": {"NoAns_total": 9}, "mine/dev": {"HasAns_total": 5, "trained_contexts": 3}}
    results = SimpleNamespace(of_split=lambda split: [SimpleNamespace(metrics=lambda: metrics[split])])
    (blind,), (trained,) = (overview._warnings(results, split) for split in metrics)
    assert blind.startswith("blind/test: no question has an answer") and trained.startswith("3 questions are about")
    metrics["mine/dev"] = {"HasAns_total": 5, "dropped_questions": 1200}
    assert overview._warnings(results, "mine/dev") == [
        "Not all questions of mine/dev are as in the files (questions left out: 1,200)."
    ]
    highest = {"name": "r / n", "exact": 9, "f1": 9, "f1_low": 8, "f1_high": 10}
    facts = {"unit": "questions", "questions": 9, "rivals": [], "figure": "", "omitted": 0}
    split = {"name": "blind/test", "warnings": [blind], "rows": [], "published": [], "chosen": {}, "highest": highest}
    text = text_of(page.render("overview.html", splits=[split | facts], sweeps=[], stages=[]))
    assert f"Warning: {blind}" in text


def test_a_lead_that_may_be_chance_is_not_called_better(results, figures, monkeypatch):
    table = results.comparison()
    table.loc[table["run"] == "large", "decoding"] = "threshold_0"  # the highest
    monkeypatch.setattr(Results, "comparison", lambda self: table.assign(f1_p_holm=1.0, f1_seeds_p_holm=None))
    names = [name for row in table.itertuples() for name in (f"{row.run} / {row.decoding}",) if row.run == "large"]
    assert overview.rivals(results, SPLIT, "base", "n_best") == ["base / threshold_0", *names]  # the reference
    assert overview.rivals(results, SPLIT, "large", "threshold_0") == ["base / n_best"]
    assert "The lead over base / n_best may be chance" in text_of(overview.section(results, figures).body)
    chance = table.assign(f1_p_holm=0.01, f1_seeds_p_holm=0.5)  # other seeds might turn it round
    monkeypatch.setattr(Results, "comparison", lambda self: chance)
    assert overview.rivals(results, SPLIT, "large", "threshold_0") == ["base / n_best"]
    monkeypatch.setattr(Results, "comparison", lambda self: table.assign(f1_p_holm=0.01, f1_seeds_p_holm=None))
    assert overview.rivals(results, SPLIT, "base", "n_best") == []
    monkeypatch.setattr(Results, "comparison", lambda self: table.assign(run="z", reference_run="y"))
    assert overview.rivals(results, SPLIT, "base", "n_best") is None
    assert "No comparison includes it" in text_of(overview.section(results, Figures(figures.folder)).body)
    monkeypatch.setattr(Results, "comparison", lambda self: table[:0])
    assert overview.rivals(results, SPLIT, "base", "n_best") == []


def calibration_scores(self, run, variant, decoding):
    """Of 90 questions of 9 articles, those that `base` answers right (70 %) and `large` (60 %)."""
    right = np.arange(90) * 7 % 90 < {"base": 63, "large": 54}[run]
    titles = [f"Article {number % 9}" for number in range(90)]
    return pd.DataFrame({"title": titles, "f1": right.astype(float), "weight": np.ones(90)})


def as_sweep(results, monkeypatch, **changes):
    """The results with the runs `base` and `large` as those of a sweep `s`."""
    monkeypatch.setattr(Results, "calibration_scores", calibration_scores)
    values = {"base": {"learning_rate": "2e-5"}, "large": {"learning_rate": "3e-5"}}
    return Results(results.config.model_copy(update={"sweeps": {"s": values}, **changes}))


def test_a_sweep_is_ranked_by_its_calibration_questions_and_not_by_the_evaluated_ones(results, figures, monkeypatch):
    swept = as_sweep(results, monkeypatch)
    ranking = rankings(swept)["s"]
    assert [(row["run"], row["decoding"]) for row in ranking.rows] == [("base", "n_best"), ("large", "n_best")]
    assert [row["f1"] for row in ranking.rows] == pytest.approx([70, 60])
    assert (ranking.questions, ranking.unit, ranking.optimism) == (90, "articles", 0)  # large is never better
    text = text_of(overview.section(swept, figures).body)
    assert "base / n_best has the highest F1: " in text and "is the highest of 2 " in text
    for row in overview.scores(swept.of_split(SPLIT)).query("decoding == 'n_best'").itertuples():
        values, place = ("2e-5 70.00", "100") if row.run == "base" else ("3e-5 60.00", "0")
        scores = rf"{row.f1:.2f} \({row.f1_low:.1f} to {row.f1_high:.1f}\)"
        assert re.search(rf"{row.run} n_best {values} \([\d.]+ to [\d.]+\) {place} {scores}", text)


@pytest.mark.parametrize("differ", ["runs", "decodings"])
def test_runs_of_a_sweep_with_other_calibration_questions_or_weights_are_not_ranked(
    differ, results, figures, monkeypatch
):
    other = {"large": results.config.runs["large"].model_copy(update={"hold_out": 0.2})}
    weighted = {"threshold_0": schema.NBest(method="n_best", unanswerable_prior=0.5)}
    changed = getattr(results.config, differ) | {"runs": other, "decodings": weighted}[differ]
    swept = as_sweep(results, monkeypatch, **{differ: changed})
    assert rankings(swept) == {"s": None}
    text = text_of(overview.section(swept, figures).body)
    assert re.search(r"large / \w+ has the highest F1", text) and "nothing chooses one of them" in text


def test_an_ensemble_stands_behind_the_last_run_in_it(results):
    several = schema.Ensemble(ensemble=["base"], evaluate_on=[SPLIT], decodings=["n_best"])
    both = results.config.model_copy(update={"ensembles": {"several": several}})
    assert list(dict.fromkeys(answers.run for answers in Results(both).answers)) == ["base", "several", "large"]


def test_published_figures_stand_beside_squad_2_only(made):
    repos = {"a": "rajpurkar/squad_v2", "b": "rajpurkar/squad", "c": None}
    datasets = {name: schema.Dataset.model_construct(repo=repo) for name, repo in repos.items()}
    results = Results(schema.Configuration.model_construct(datasets=datasets))
    assert overview.published(results, "a/validation") == overview.PUBLISHED
    assert all(overview.published(results, split) == () for split in ("a/train", "b/validation", "c/validation"))


def test_a_stage_has_its_longest_wait_and_job_and_its_highest_memory():
    rows = {"rule": ["train", "train"], "attempt": [1, 2], "wait_seconds": [5.0, None], "elapsed_seconds": [60.0, 30.0]}
    rows |= {"asked_seconds": [100, 100], "peak_memory_mib": [1.0, 3.0], "asked_memory_mib": [4, 4]}
    (row,) = overview.stages(pd.DataFrame({**rows, "peak_gpu_memory_mib": [None, 2.0]}))
    assert (row["jobs"], row["attempts"], row["wait"], row["longest"], row["total"]) == (1, 2, 5, 60, 90)
    assert (row["memory"], row["requested_memory"], row["gpu_memory"]) == (3, 4, 2)


def test_differences_are_those_of_the_comparison_and_name_what_was_set_differently(results, figures):
    section = comparison.section(results, figures)
    text = text_of(section.body)
    for row in results.comparison().itertuples():
        assert page.signed(row.f1_difference) in text
        assert f"{page.signed(row.f1_low)} to {page.signed(row.f1_high)}" in text
    drawn = pd.read_csv(figures.folder / "differences-1.csv")
    assert drawn["f1_difference"].tolist() == pytest.approx(results.comparison()["f1_difference"].tolist())


def test_runs_and_splits_may_be_called_by_numbers(tmp_path):
    made = report_fixture.make_results(tmp_path, questions=12, runs={"1": [1], "02": [1]}, splits=("made/2024",))
    with chdir(tmp_path):
        section = comparison.section(Results(made), Figures(tmp_path))
        highest = overview.rivals(Results(made), "made/2024", "02", "n_best")
    assert "02 / n_best" in text_of(section.body) and "made/2024" in text_of(section.body) and highest is not None


def test_settings_that_differ_are_named_by_their_path_and_what_is_no_cause_is_not():
    same = {"model": "a", "train_on": "d/train", "evaluate_on": ["d/dev"], "decodings": ["n", "m"]}
    run = schema.Run(**same, training={"epochs": 2, "warmup": 0.1}, seeds=[1], checkpoints={"keep": 1})
    other = schema.Run(**same, training={"epochs": 3, "warmup": 0.1}, seeds=[2], checkpoints={"keep": 2})
    decodings = dict.fromkeys("nm", schema.NBest(method="n_best", n_best_size=1))
    parts = {"runs": {"x": run, "y": other}, "ensembles": {}, "decodings": decodings}
    config = schema.Configuration.model_construct(**parts)
    row = {"run": "x", "reference_run": "y", "decoding": "n", "reference_decoding": "m"}
    assert comparison.differing(config, row) == [("training.epochs", 2, 3)]
    decodings["m"] = schema.Walkthrough(method="walkthrough")
    found = comparison.differing(config, {**row, "reference_run": "x"})
    assert ("decoding.method", "n_best", "walkthrough") in found and ("decoding.n_best_size", 1, "–") in found


def test_a_warning_of_comparisons_stands_above_their_table(results, figures, monkeypatch):
    few = results.comparison().assign(units=5, resampled="articles", least_p_holm=1 / 16)
    monkeypatch.setattr(Results, "comparison", lambda self: few)
    assert "significance is out of reach: with 5 articles" in comparison.section(results, figures).body


def test_no_comparison_leaves_its_section_out(results, figures, monkeypatch):
    monkeypatch.setattr(type(results), "comparison", lambda self: pd.DataFrame(columns=["dataset"]))
    assert comparison.section(results, figures) is None


def test_all_settings_the_commit_and_the_versions_are_listed(results, figures):
    text = text_of(stages.section(results, figures).body)
    assert "max_length:" in text and "weight_decay: 0.01" in text and "commit of this workflow 0000000000" in text
    assert "base / seed-1, base / seed-2, large / seed-1" in text and "transformers 1.2.3" in text


def test_the_page_is_one_file_that_names_nothing_outside_itself(made, tmp_path):
    with chdir(made[0]):
        build.build(made[1], tmp_path / "report.html", tmp_path / "figures")
    text = (tmp_path / "report.html").read_text()
    tags = Words(text).tags
    links = [
        attributes.get(name) for _, attributes in tags for name in ("src", "href", "xlink:href") if name in attributes
    ]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\((?!#)", text)
    assert [attributes["id"] for tag, attributes in tags if tag == "section"][:2] == ["overview", "comparison"]
    assert {file.suffix for file in (tmp_path / "figures").iterdir()} == {".svg", ".png", ".csv"}
    names = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_the_same_results_give_the_same_page_and_figures_byte_for_byte(made, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with chdir(made[0]):
            build.build(made[1], tmp_path / name / "report.html", tmp_path / name / "figures")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_only_scripts_of_the_page_may_run_by_its_policy(tmp_path):
    page.write(
        tmp_path / "page.html", "<script>", "&", [page.Section("a", "<b>", page.Markup("x"), (("block", b"data"),))]
    )
    text = (tmp_path / "page.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert scripts and set(re.findall(r"sha256-([^&]*)&#39;", policy)) == hashes
    assert "default-src &#39;none&#39;" in policy and "unsafe-inline" not in policy.split("style-src")[0]
    assert "<title>&lt;script&gt;</title>" in text
    block = re.search(r'<script type="application/gzip;base64" id="block">(.*?)</script>', text)[1]
    assert gzip.decompress(base64.b64decode(block)) == b"data"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.04, "0.0 s"),
        (61, "1 min 1 s"),
        (3 * 3600 + 59, "3 h"),
    ],
)
def test_durations_in_words(value, text):
    assert page.duration(value) == text


def test_numbers_for_people():
    assert (page.number(1234.5), page.signed(-1.25), page.signed(0.5), page.gib(1536)) == (
        "1,234.50",
        "−1.25",
        "+0.50",
        "1.5",
    )


def test_a_calibration_that_is_left_from_before_is_not_taken_for_a_threshold_of_ones_own(results):
    own = next(answers for answers in results.answers if answers.decoding == "threshold_0")
    calibrated = next(answers for answers in results.answers if answers.decoding == "n_best")
    assert results.threshold(calibrated) == results.calibration(calibrated)["null_threshold"] != 0.0
    left = Path("results", own.run, own.variant, "calibration", "threshold_0.json")
    left.write_text('{"null_threshold": 7.5, "temperature": 3.0}')
    try:
        assert results.calibration(own) is None and results.threshold(own) == 0.0
    finally:
        left.unlink()
