"""Paired comparisons against hand-computed cases, enumerations of all assignments, scipy and closed testing."""

import copy
import csv
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored_questions import write_scores

from chain import CONFIG
from qa.common.errors import InputError
from qa.config import comparisons, lineage, settings
from qa.data.prepare_questions import convert
from qa.evaluation import compare as comparison
from qa.evaluation.compare import COLUMNS, compare, differences
from qa.metrics.statistics import FLIPS, Ratios, bootstrap, clusters, holm, least_p, randomisation_test

SPLIT = "d/validation"
PAIR = (SPLIT, "new", "n_best", "old", "walkthrough")


def records_of(folder, golds, titles=None):
    """The records file of questions with these gold texts (None: unanswerable), an article a title."""
    articles = {}
    for number, (key, gold) in enumerate(golds.items()):
        answers = [] if gold is None else [{"text": gold, "answer_start": 0}]
        asked = [{"id": key, "question": "Which?", "answers": answers, "is_impossible": not answers}]
        paragraph = {"context": f"{gold or ''} some more words.", "qas": asked}
        articles.setdefault(titles[number] if titles else "", []).append(paragraph)
    data = [{"title": title, "paragraphs": paragraphs} for title, paragraphs in articles.items()]
    (folder / "q.json").write_text(json.dumps({"version": "v2.0", "data": data}))
    convert([folder / "q.json"], folder / "records.parquet")
    return {SPLIT: str(folder / "records.parquet")}


def compared(folder, golds, given_by, pair=PAIR, titles=None):
    """Rows of `compare` over texts by (run, variant, decoding)."""
    records = records_of(folder, golds, titles)[SPLIT]
    answered, files = [], []
    for (run, variant, decoding), texts in given_by.items():
        answered.append((run, variant, SPLIT, decoding))
        files.append(write_scores(records, texts, folder / f"{run}-{variant}-{decoding}.parquet"))
    return compare([pair], answered, files, folder / "comparison.csv")


GOLDS = {"a": "red mill", "b": "two", "c": None, "d": None, "e": "an oak"}
OLD = {"a": "red", "b": "two", "c": "", "d": "more", "e": ""}
NEW = {"a": "red mill", "b": "words", "c": "", "d": "", "e": "oak words"}


def test_a_row_has_both_means_their_difference_and_who_wins_how_often(tmp_path):
    (row,) = compared(tmp_path, GOLDS, {("old", "seed-1", "walkthrough"): OLD, ("new", "seed-1", "n_best"): NEW})
    # exact: old b, c of 5; new a, c, d. F1: old 2/3 (a), b, c; new a, c, d and 2/3 of e ("oak" of "oak words")
    named = {"dataset": "d", "split": "validation", "run": "new", "decoding": "n_best"}
    named |= {"reference_run": "old", "reference_decoding": "walkthrough", "questions": 5}
    assert {key: row[key] for key in named} == named and (row["seeds"], row["reference_seeds"]) == (1, 1)
    assert (row["exact"], row["exact_reference"]) == pytest.approx((60, 40))
    assert (row["f1"], row["f1_reference"]) == pytest.approx((100 * 11 / 15, 100 * 8 / 15))
    assert (row["exact_difference"], row["f1_difference"]) == pytest.approx((20, 20))
    assert [row[f"exact_{part}"] for part in ("wins", "losses", "ties")] == [2, 1, 2]
    assert [row[f"f1_{part}"] for part in ("wins", "losses", "ties")] == [3, 1, 1]
    # of the 8 signs of three differences of 1, those that are all alike and those of one against two: all reach 1
    assert row["exact_p"] == row["exact_p_holm"] == 1 and row["resampled"] == "questions"


def test_the_file_has_the_rows_under_the_documented_columns(tmp_path):
    rows = compared(tmp_path, GOLDS, {("old", "seed-1", "walkthrough"): OLD, ("new", "seed-1", "n_best"): NEW})
    with open(tmp_path / "comparison.csv", newline="") as stream:
        written = list(csv.DictReader(stream))
    assert (
        list(written[0])
        == list(COLUMNS)
        == list(COLUMNS[:12])
        + [
            metric + part
            for metric in ("exact", "f1")
            for part in (
                *("", "_reference", "_difference", "_low", "_high", "_p", "_p_holm", "_wins", "_losses", "_ties"),
                *("_seeds_low", "_seeds_high", "_seeds_p", "_seeds_p_holm"),
            )
        ]
    )
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows] == [
        {key: row[key] for key in rows[0]} for row in written
    ]


def test_a_questions_score_is_its_mean_over_the_runs_variants_whatever_their_names(tmp_path):
    right, wrong = {"a": "x", "b": "y"}, {"a": "x", "b": "x"}
    variants = {("new", "seed-1", "n_best"): right, ("new", "seed-22", "n_best"): wrong}
    variants |= {("old", "ensemble", "walkthrough"): wrong, ("new", "seed-1", "walkthrough"): wrong}
    (row,) = compared(tmp_path, {"a": "x", "b": "y"}, variants)
    assert (row["seeds"], row["reference_seeds"], row["exact"], row["exact_reference"]) == (2, 1, 75, 50)
    assert (row["exact_wins"], row["exact_ties"]) == (1, 1)


def test_several_seeds_against_one_are_said_as_that(tmp_path, caplog):
    golds = {f"q{n}": "x" for n in range(20)}
    given_by = {("new", f"seed-{n}", "n_best"): golds for n in (1, 2, 3)}
    compared(tmp_path, golds, given_by | {("old", "seed-1", "walkthrough"): golds})
    line, message = (
        "new/n_best against old/walkthrough: 3 against 1 seeds",
        comparison.closing_message(tmp_path / "comparison.csv"),
    )
    assert line in caplog.text and line in message and "  3 : 1  " in message
    caplog.clear()
    compared(tmp_path, golds, given_by | {("old", f"seed-{n}", "walkthrough"): golds for n in (1, 2, 3)})
    message = comparison.closing_message(tmp_path / "comparison.csv")
    assert "  3  " in message and not caplog.text and "Warning" not in message


def test_pairs_with_the_same_numbers_of_seeds_are_one_warning_whatever_their_references():
    seeds = {"run": "team", "decoding": "n_best", "reference_decoding": "n_best", "seeds": 1, "reference_seeds": 3}
    (message,) = comparison.warnings([seeds | {"reference_run": run} for run in ("old", "new")])
    assert message.startswith("team/n_best against old/n_best, team/n_best against new/n_best: 1 against 3 seeds (")


def test_with_several_seeds_on_both_sides_there_is_an_interval_and_a_test_over_seeds_too(tmp_path):
    golds = {f"q{n}": "x" for n in range(60)}
    share = {"new": (40, 55, 30), "old": (35, 25, 45), "once": (1,)}  # questions that each seed answers
    texts = {
        (run, f"seed-{seed}"): {key: "x" if (7 * n) % 60 < right else "y" for n, key in enumerate(golds)}
        for run, counts in share.items()
        for seed, right in enumerate(counts)
    }
    records, answered, files = records_of(tmp_path, golds)[SPLIT], [], []
    for (run, variant), answers in texts.items():
        for by in ("n_best", "walkthrough"):
            lost = {"q0": "y", "q1": "y"} if by == "walkthrough" else {}  # of every seed
            answered.append((run, variant, SPLIT, by))
            files.append(write_scores(records, {**answers, **lost}, tmp_path / f"{run}-{variant}-{by}.parquet"))
    sides = [("new", "n_best"), ("old", "n_best"), ("once", "n_best"), ("new", "walkthrough")]
    pairs = [(SPLIT, *sides[0], *side) for side in sides[1:]]
    other, once, decoding = compare(pairs, answered, files, tmp_path / "comparison.csv")
    assert other["f1_p"] < 0.05 < other["f1_seeds_p"] and other["f1_seeds_low"] < 0 < other["f1_low"]
    assert other["f1_seeds_high"] + other["f1_seeds_low"] == pytest.approx(2 * other["f1_difference"])
    assert {once[f"f1_seeds_{part}"] for part in ("low", "high", "p", "p_holm")} == {None}
    # the seeds of two decodings are the same, so their differences lie close together
    width = decoding["f1_seeds_high"] - decoding["f1_seeds_low"]
    assert width < (other["f1_seeds_high"] - other["f1_seeds_low"]) / 4
    assert other["f1_seeds_p_holm"] == max(other["f1_seeds_p"], 2 * decoding["f1_seeds_p"])  # of two rows
    lines = comparison.closing_message(tmp_path / "comparison.csv").splitlines()
    assert "for other seeds too" in lines[2] and lines[4].rstrip().endswith(" -")
    assert lines[3].rstrip().endswith(f"{other['f1_seeds_p_holm']:.4f}")


def test_equal_means_over_seeds_are_ties_in_whatever_order_they_were_added(tmp_path):
    texts = ["one", "one x", "one x x"]  # the mean of their F1 depends on the order in its last digit
    variants = {("new", f"seed-{n}", "n_best"): {"a": text} for n, text in enumerate(texts)}
    variants |= {("old", f"seed-{n}", "walkthrough"): {"a": text} for n, text in enumerate(texts[::-1])}
    (row,) = compared(tmp_path, {"a": "one eight nine ten"}, variants)
    assert 0 < row["f1"] < 100 and (row["f1_ties"], row["f1_p"], row["f1_difference"]) == (1, 1, 0)


@pytest.mark.parametrize("keys", ["abcd", "abcdez", "abced"])
def test_scores_of_other_questions_are_refused_by_their_files_name(keys, tmp_path):
    files = []
    for name, ids in (("old", "abcde"), ("new", keys)):
        records = records_of(tmp_path, dict.fromkeys(ids))[SPLIT]
        files.append(write_scores(records, dict.fromkeys(ids, ""), tmp_path / f"{name}.parquet"))
    answered = [("old", "seed-1", SPLIT, "walkthrough"), ("new", "seed-1", SPLIT, "n_best")]
    with pytest.raises(InputError, match=r"new\.parquet: not of the questions of .*old\.parquet"):
        compare([PAIR], answered, files, tmp_path / "comparison.csv")
    assert not (tmp_path / "comparison.csv").exists()


def test_nothing_to_compare_leaves_a_file_of_column_names_and_nothing_to_tell(tmp_path):
    target = tmp_path / "comparison.csv"
    assert comparison.closing_message(target) == ""
    assert compare([], [], [], target) == []
    assert target.read_text() == ",".join(COLUMNS) + "\n" and comparison.closing_message(target) == ""


def test_the_closing_message_tells_the_difference_in_f1_its_interval_and_corrected_p(tmp_path):
    golds = {f"q{n}": "x" for n in range(20)}
    old = {key: "y" for key in golds}
    given_by = {("old", "seed-1", "walkthrough"): old, ("new", "seed-1", "n_best"): old | {"q3": "x", "q4": "x"}}
    (row,) = compared(tmp_path, golds, given_by)
    told = comparison.closing_message(tmp_path / "comparison.csv").splitlines()
    assert "percentage points" in told[0]
    interval = f"{row['f1_low']:+.2f} to {row['f1_high']:+.2f}"
    cells = ["new", "n_best", "old/walkthrough", "d", "validation", "+10.00", interval, f"{row['f1_p_holm']:.4f}"]
    assert told[3].split("  ")[0] == "new" and [cell in told[3] for cell in cells] == [True] * 8


def scores(pairs_, questions, seed=0):
    """Exact match and F1 of sides and references, of which the second half is a little better."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 5, (2, pairs_, 2, questions)) / 4
    drawn[0] = np.where(rng.random(drawn[0].shape) < 0.15, 1.0, drawn[0])
    return drawn


def enumerated(sums):
    """The share of all assignments of signs whose sum is at least as far from 0 as that of `sums` as they are."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(sums))))
    return np.mean(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9)


def test_p_is_that_of_an_enumeration_of_all_assignments_of_signs():
    rng = np.random.default_rng(4)
    for questions in (1, 3, 8, 13, 15):
        gained = np.stack([rng.integers(-1, 2, questions), rng.normal(0.4, 0.5, questions).round(2)], axis=1)
        expected = [enumerated(column) for column in gained.T]
        tolerance = 1e-12 if questions <= 13 else 0.02  # all assignments, if there are no more than FLIPS
        assert randomisation_test(gained.astype(float)) == pytest.approx(expected, abs=tolerance)


def test_p_over_articles_is_that_of_an_enumeration_of_whole_articles():
    rng = np.random.default_rng(5)
    article = np.repeat(np.arange(11) * 3, rng.integers(1, 9, 11))  # numbers need not follow one another
    gained = rng.normal(0.1, 0.3, 11)[np.searchsorted(np.arange(11) * 3, article)] + rng.normal(0, 0.1, len(article))
    by_article, by_question = (randomisation_test(gained[:, None], where)[0] for where in (article, None))
    sums = np.array([gained[article == number].sum() for number in np.unique(article)])
    assert by_article == pytest.approx(enumerated(sums), abs=1e-12)
    assert by_question < by_article / 2  # taking questions of one article for independent would claim too much


@pytest.mark.parametrize(
    ("units", "least"), [(1, 1), (5, 1 / 16), (8, 1 / 128), (13, 1 / 4096), (14, 1 / 10_001), (9_000, 1 / 10_001)]
)
def test_the_least_p_is_that_of_differences_of_one_sign(units, least):
    assert least_p(units) == least
    if units != 14:  # there, random assignments may repeat the observed one
        assert randomisation_test(np.ones((units, 1)))[0] == least


# (articles, comparisons): the least corrected p-value, and what would bring 0.05 within reach
OUT_OF_REACH = {
    (8, 12): (12 / 128, "it needs 9 articles or at most 6 comparisons"),
    (5, 1): (1 / 16, "it needs 6 articles"),
    (8, 6): (6 / 128, None),
    (40, 12): (12 / 10_001, None),
    (40, 600): (600 / 10_001, "it needs at most 500 comparisons"),
    (5, 600): (1, "it needs more articles and fewer comparisons"),
}


@pytest.mark.parametrize(("articles", "number"), OUT_OF_REACH)
def test_significance_out_of_reach_is_warned_of_with_what_would_bring_it(articles, number):
    least, remedy = OUT_OF_REACH[articles, number]
    least = min(1, number * least_p(articles)) if number == 600 else least
    named = dict(zip(comparison.KEYS, (*SPLIT.split("/"), *PAIR[1:]), strict=True))
    row = {
        **named,
        "seeds": "2",
        "reference_seeds": "2",
        "units": str(articles),
        "resampled": "articles",
        "least_p_holm": str(least),
    }
    found = comparison.warnings([row] * number)
    if remedy is None:
        assert found == []
    else:
        (line,) = found
        assert f"with {articles} articles and {number} comparison" in line and f"below {least:.2g}; {remedy}" in line
    del row["least_p_holm"]  # a file of an older version
    assert comparison.warnings([row]) == []


def test_the_least_corrected_p_stands_in_the_file_the_log_and_the_closing_message(tmp_path, caplog):
    golds = {f"q{n}": "x" for n in range(20)}
    given_by = {("old", "seed-1", "walkthrough"): dict.fromkeys(golds, "y"), ("new", "seed-1", "n_best"): golds}
    (row,) = compared(tmp_path, golds, given_by, titles=[f"t{n % 5}" for n in range(20)])
    assert (row["units"], row["resampled"]) == (5, "articles")
    assert row["f1_p_holm"] == row["least_p_holm"] == 1 / 16  # as clear as can be, and not significant
    line = "new/n_best on d/validation: significance is out of reach"
    assert line in caplog.text and line in comparison.closing_message(tmp_path / "comparison.csv")


def test_p_agrees_with_scipys_permutation_test():
    stats = pytest.importorskip("scipy.stats")
    for seed, shift in ((0, 0.0), (1, 0.02), (2, 0.05)):
        one, other = np.random.default_rng(seed).random((2, 400)).round(2)
        one = np.minimum(1, one + shift)
        found = randomisation_test((one - other)[:, None])[0]
        expected = stats.permutation_test(
            (one, other),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=FLIPS,
            rng=np.random.default_rng(9),
        )
        assert found == pytest.approx(expected.pvalue, abs=0.025)


@pytest.mark.parametrize("articles", [None, 25])
def test_the_interval_agrees_with_scipys_bootstrap(articles):
    stats = pytest.importorskip("scipy.stats")
    side, reference = scores(1, 300)
    gained = (side - reference)[0, 1]
    article = None if articles is None else np.random.default_rng(1).integers(0, articles, 300)
    where = np.arange(300) if article is None else article
    sums, sizes = np.bincount(where, gained), np.bincount(where)
    expected = stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: 100 * s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    (row,) = differences(side, reference, article)
    width = expected.high - expected.low
    assert (row["f1_low"], row["f1_high"]) == pytest.approx((expected.low, expected.high), abs=0.05 * width)
    assert row["f1_low"] < row["f1_difference"] < row["f1_high"]


def test_the_interval_does_not_depend_on_how_its_draws_are_made():
    side, reference = scores(1, 250, seed=3)
    ratios = Ratios(["f1"], (side - reference)[0, 1][:, None], np.ones((250, 1)))
    (low, high), (other_low, other_high) = (bootstrap(ratios, grouped=g)["f1"] for g in (True, False))
    assert (low, high) == pytest.approx((other_low, other_high), abs=0.05 * (high - low))


def test_articles_are_drawn_and_flipped_where_titles_tell_them_apart(tmp_path):
    golds = {f"q{n}": "x" for n in range(60)}
    titles = [f"t{n % 12}" for n in range(60)]
    new = {key: "x" if n % 12 < 4 else "y" for n, key in enumerate(golds)}  # right in all of four articles
    given_by = {("old", "seed-1", "walkthrough"): dict.fromkeys(golds, "y"), ("new", "seed-1", "n_best"): new}
    (by_article,) = compared(tmp_path, golds, given_by, titles=titles)
    (by_question,) = compared(tmp_path, golds, given_by)
    assert (by_article["resampled"], by_question["resampled"]) == ("articles", "questions")
    assert by_article["exact_p"] == pytest.approx(1 / 8, abs=0.02)  # all four of one sign: 2 of 16
    assert by_question["exact_p"] == 1 / (FLIPS + 1)
    widths = [row["f1_high"] - row["f1_low"] for row in (by_article, by_question)]
    assert widths[0] > 1.5 * widths[1]


def closed_testing(p_values):
    """Holm's correction as the closed test that it is: of every set of hypotheses, Bonferroni's."""
    number = len(p_values)
    sets = [s for size in range(1, number + 1) for s in itertools.combinations(range(number), size)]
    bonferroni = {s: min(1, len(s) * min(p_values[i] for i in s)) for s in sets}
    return [max(p for s, p in bonferroni.items() if i in s) for i in range(number)]


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.01, 0.02, 0.5])), min_size=1, max_size=6))
def test_holms_correction_is_the_closed_test_of_bonferronis(p_values):
    assert holm(p_values) == pytest.approx(closed_testing(p_values))


def test_holms_correction_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]).shape == (0,)


def test_each_metrics_p_values_are_corrected_over_the_rows_of_the_file(tmp_path):
    rng, golds = np.random.default_rng(6), {f"q{n}": "red mill" for n in range(200)}
    records = records_of(tmp_path, golds)[SPLIT]
    answered, files = [], []
    for number, rate in enumerate((0.5, 0.56, 0.6, 0.75)):
        texts = {key: ("red mill" if rng.random() < rate else ("mill", "")[int(rng.integers(2))]) for key in golds}
        files.append(write_scores(records, texts, tmp_path / f"{number}.parquet"))
        answered.append((f"r{number}", "seed-1", SPLIT, "n"))
    asked = [(SPLIT, f"r{number}", "n", "r0", "n") for number in (1, 2, 3)]
    rows = compare(asked, answered, files, tmp_path / "all.csv")
    for metric in ("exact", "f1"):
        expected = closed_testing([row[f"{metric}_p"] for row in rows])
        assert [row[f"{metric}_p_holm"] for row in rows] == pytest.approx(expected)
        assert any(row[f"{metric}_p_holm"] > row[f"{metric}_p"] for row in rows)
    (alone,) = compare(asked[1:2], answered, files, tmp_path / "one.csv")
    same = [key for key in rows[1] if not key.endswith("_p_holm")]
    assert {key: alone[key] for key in same} == pytest.approx({key: rows[1][key] for key in same})


SHARES = st.lists(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 2 / 3, 1.0]), min_size=2, max_size=30)


@given(SHARES, st.integers(0, 2**32 - 1), st.booleans())
def test_swapping_the_sides_turns_every_sign_and_keeps_p(overlap, seed, by_article):
    rng = np.random.default_rng(seed)
    side, reference = (np.stack([np.floor(x), x])[None] for x in (np.array(overlap), rng.permutation(overlap)))
    article = np.arange(len(overlap)) // 2 if by_article else None
    (row,), (back,) = differences(side, reference, article), differences(reference, side, article)
    for metric in ("exact", "f1"):
        part = {key.removeprefix(metric): value for key, value in row.items() if key.startswith(metric)}
        other = {key.removeprefix(metric): value for key, value in back.items() if key.startswith(metric)}
        assert other["_p"] == part["_p"] and other["_difference"] == -part["_difference"]
        assert (other["_low"], other["_high"]) == pytest.approx((-part["_high"], -part["_low"]))
        assert (other["_wins"], other["_losses"], other["_ties"]) == (part["_losses"], part["_wins"], part["_ties"])
        assert (other[""], other["_reference"]) == (part["_reference"], part[""])


@given(SHARES)
def test_a_side_against_itself_differs_by_nothing_with_p_1(overlap):
    side = np.stack([np.floor(overlap), overlap])[None]
    (row,) = differences(side, side.copy(), None)
    for metric in ("exact", "f1"):
        assert [row[f"{metric}_{part}"] for part in ("difference", "low", "high", "wins", "losses")] == [0] * 5
        assert (row[f"{metric}_p"], row[f"{metric}_ties"]) == (1, len(overlap))


def test_a_pair_does_not_depend_on_which_other_pairs_there_are():
    side, reference = scores(3, 120)
    article = clusters([f"t{n % 15}" for n in range(120)])
    for where in (None, article):
        together = differences(side, reference, where)
        for number, row in enumerate(together):
            (alone,) = differences(side[[number]], reference[[number]], where)
            assert alone == pytest.approx(row)


def resolved(**changes):
    """The tiny configuration with some top-level keys changed, and which runs and decodings it asks to compare."""
    config = copy.deepcopy(CONFIG)
    config.update(changes)
    config = settings.resolve(config)
    return comparisons.compared(config, lineage.scored(config))


def test_unless_told_otherwise_runs_are_compared_with_the_walkthroughs_run_else_with_the_first():
    rows, answered = resolved()
    split = "mills/validation"
    assert rows == [
        (split, "small", "walkthrough", "small", "n_best"),
        (split, "other", "n_best", "small", "n_best"),
    ]
    names = [("small", "seed-1", split, by) for by in ("n_best", "walkthrough")]
    assert answered == [*names, ("other", "seed-1", split, "n_best")]
    runs = {"other": CONFIG["runs"]["other"], "baseline": CONFIG["runs"]["small"]}
    rows, _ = resolved(runs=runs)
    # of another run only its first decoding, of the reference's own run all
    assert [row[1:3] for row in rows] == [("other", "n_best"), ("baseline", "n_best")]
    assert {row[3:] for row in rows} == {("baseline", "walkthrough")}
    runs["baseline"] = {**CONFIG["runs"]["small"], "decodings": ["n_best"]}
    assert {row[3:] for row in resolved(runs=runs)[0]} == {("other", "n_best")}


def test_a_named_reference_and_further_pairs_are_compared_once_each():
    further = [["small/n_best", "other/n_best"], ["small/n_best", "small/walkthrough"]]
    assert [row[1:] for row in resolved(compare=further)[0]] == [tuple("/".join(pair).split("/")) for pair in further]
    rows, answered = resolved(compare_to="small/walkthrough", compare=further)
    assert [row[1:] for row in rows] == [
        ("small", "n_best", "small", "walkthrough"),
        ("other", "n_best", "small", "walkthrough"),
        ("small", "n_best", "other", "n_best"),
    ]
    assert len(answered) == 3


def test_of_other_runs_only_the_first_decoding_is_compared():
    rows, answered = resolved(compare_to="other/n_best")
    assert [row[1:] for row in rows] == [("small", "n_best", "other", "n_best")] and len(answered) == 2


def test_only_answers_to_the_same_split_are_compared_and_others_are_not_read():
    small, other = copy.deepcopy([CONFIG["runs"]["small"], CONFIG["runs"]["other"]])
    other["evaluate_on"] = ["mills/extra"]
    rows, answered = resolved(runs={"small": small, "other": other})
    assert rows == [("mills/validation", "small", "walkthrough", "small", "n_best")]
    assert {run for run, *_ in answered} == {"small"}
    other["evaluate_on"] = ["mills/extra", "mills/validation"]
    rows, answered = resolved(runs={"small": small, "other": other})
    assert len(rows) == 2 and {split for split, *_ in rows} == {"mills/validation"}
    assert ("other", "seed-1", "mills/extra", "n_best") not in answered


def test_a_lone_run_with_one_decoding_is_compared_with_nothing():
    assert resolved(runs={"other": CONFIG["runs"]["other"]}) == ([], [])


WRONG = {
    "no decoding": ({"compare_to": "small"}, r"config: compare_to: 'small' is not written `run/decoding`"),
    "unknown run": ({"compare_to": "large/n_best"}, r"compare_to: no run `large` among small, other"),
    "another's decoding": (
        {"compare_to": "other/walkthrough"},
        r"compare_to: no decoding `walkthrough` among those of run `other`: n_best",
    ),
    "unknown in a pair": ({"compare": [["small/n_best", "large/n_best"]]}, r"compare\.0\.1: no run `large`"),
    "itself": ({"compare": [["small/n_best"] * 2]}, r"compare\.0: small/n_best is compared with itself"),
    "three": ({"compare": [["small/n_best"] * 3]}, r"compare\.0: .*write two"),
    "no text": ({"compare_to": 3}, r"compare_to: 3 is no text"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_comparison_that_cannot_be_made_is_refused_with_its_key(mistake):
    changes, message = WRONG[mistake]
    with pytest.raises(InputError, match=message):
        resolved(**changes)


def test_a_pair_that_answers_no_common_split_is_refused():
    small, other = CONFIG["runs"]["small"], {**CONFIG["runs"]["other"], "evaluate_on": ["mills/extra"]}
    with pytest.raises(InputError, match=r"compare\.0: small/n_best and other/n_best share no split"):
        resolved(runs={"small": small, "other": other}, compare=[["small/n_best", "other/n_best"]])
