"""The scorer that the benchmark times against ours, and the plain way to bootstrap intervals."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plain_scorer
import scoring_bench
from qa.metrics import squad, statistics

TEXTS = st.lists(st.sampled_from(["the", "Cat!", "dog", "a", "...", "cat"]), max_size=4).map(" ".join)
NULLS = st.sampled_from([-1.5, 0.0, 0.5, 2.0])


@given(st.lists(st.tuples(st.lists(TEXTS, max_size=3), TEXTS, NULLS), min_size=1, max_size=8))
def test_the_plain_scorer_gives_the_official_metrics(questions):
    golds, answers, nulls = ({f"q{n}": row[part] for n, row in enumerate(questions)} for part in range(3))
    if not any(golds.values()):
        golds["q0"] = ["dog"]
    expected = squad.official_metrics(golds, answers, nulls, float("inf"), average_precision=True)
    found = plain_scorer.score(golds, answers, nulls)
    assert list(found) == list(expected) and found == pytest.approx(expected, rel=1e-9)


def test_the_plain_scorer_on_a_case_worked_out_by_hand():
    golds = {"a": ["Eiffel Tower in Paris"], "b": ["red", "dark red"], "c": [], "d": []}
    answers, nulls = {"a": "tower", "b": "Dark red.", "c": "", "d": "blue"}, {"a": 0.1, "b": 0.3, "c": 0.7, "d": 0.2}
    found = plain_scorer.score(golds, answers, nulls)
    assert (found["exact"], found["f1"], found["HasAns_f1"]) == pytest.approx((50.0, 60.0, 70.0))
    assert (found["best_exact"], found["best_exact_thresh"], found["best_f1_thresh"]) == (50.0, 0.0, 0.1)
    assert found["pr_exact_ap"] == pytest.approx(100 / 6)


def test_both_processes_give_the_same_metrics_of_the_same_files(tmp_path):
    scoring_bench.prepared(tmp_path, contexts=10, questions=80)
    found, expected = scoring_bench.ours(tmp_path), scoring_bench.plain(tmp_path)
    assert list(found) == list(expected) and found == pytest.approx(expected, rel=1e-9)
    assert 20 < found["exact"] < found["f1"] < 90 and found["best_f1"] > found["f1"]
    assert json.loads(scoring_bench.process(tmp_path, "-c", scoring_bench.READ, *scoring_bench.FILES))


def test_the_plain_way_to_bootstrap_gives_the_same_intervals(tmp_path):
    scoring_bench.prepared(tmp_path, contexts=20, questions=300)
    ratios, titles = scoring_bench.resampled(tmp_path)
    assert len(titles) == 300
    found, expected = statistics.bootstrap(ratios), scoring_bench.gathered(ratios, 4_000)
    for name, (low, high) in expected.items():
        assert found[name] == pytest.approx([low, high], abs=0.12 * (high - low))


def test_the_lines_of_the_table_say_that_the_metrics_agree():
    scored, resampled = scoring_bench.stages(contexts=10, questions=60, rounds=1)
    assert "all metrics equal" in scored.work and scored.walkthrough == scored.run_qa > 0
    assert resampled.run_qa is None and resampled.ours > 0
