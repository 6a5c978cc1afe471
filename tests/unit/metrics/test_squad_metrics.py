"""Exact match, F1 and what follows from them: cases worked out by hand, and a plain reference for made-up data."""

import math
import os
import string
import subprocess
import sys
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa.common.errors import InputError
from qa.data.prepare_questions import gold_texts
from qa.metrics import squad as metrics

BASIC = ["exact", "f1", "total"]
BEST = ["best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"]
AVERAGE_PRECISIONS = ["pr_exact_ap", "pr_f1_ap", "pr_oracle_ap"]


def pair_scores(gold, predicted):
    """Exact match and F1 of one answer against one gold."""
    exact, f1 = metrics.raw_scores({"q": [gold]}, {"q": predicted})
    return exact["q"], f1["q"]


def prefixed(prefix):
    return [prefix + key for key in BASIC]


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The Norman Conquest", "norman conquest"),
        ("  an\tapple \n a day ", "apple day"),
        ("anthem, theatre, Athens", "anthem theatre athens"),
        ("U.S. $5,000 (ca.)", "us 5000 ca"),
        ("the-end", "theend"),
        ("well_known", "wellknown"),
        ("“Le Monde” — the paper…", "“le monde” — paper…"),
        ("the—end", "—end"),
        ("a\N{NO-BREAK SPACE}cat\N{IDEOGRAPHIC SPACE}sat", "cat sat"),
        ("ÉCOLE", "école"),
        ("the", ""),
        ("A, an; THE!", ""),
        ("...", ""),
        ("", ""),
    ],
)
def test_normalising_drops_case_ascii_punctuation_articles_and_spare_white_space(text, normalized):
    assert metrics.normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [("The Eiffel Tower!", "eiffel  tower", 1), ("The Eiffel Tower", "tower eiffel", 0), ("", "the", 1)],
)
def test_exact_match_compares_normalised_texts(gold, predicted, expected):
    assert pair_scores(gold, predicted)[0] == expected


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("the Eiffel Tower", "Eiffel tower", 1),
        ("tower Eiffel", "Eiffel tower", 1),
        ("Eiffel Tower in Paris", "tower", Fraction(2, 5)),
        ("new york new york", "new york", Fraction(2, 3)),
        ("new york", "new new new", Fraction(2, 5)),
        ("Paris", "London", 0),
        ("", "the", 1),
        ("", "Paris", 0),
        ("Paris", "a", 0),
    ],
)
def test_f1_counts_shared_words_as_often_as_both_texts_hold_them(gold, predicted, expected):
    assert pair_scores(gold, predicted)[1] == pytest.approx(float(expected), abs=1e-15)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("北京大学", "北京大", Fraction(6, 7)),
        ("北京大学。", "北京 大学。", 1),
        ("東京", "京都", Fraction(1, 2)),
        ("กรุงเทพ", "", 0),
        ("", "the", 1),
        ("New York", "newyork", 1),
    ],
)
def test_f1_by_characters_counts_all_but_white_space(gold, predicted, expected):
    exact, f1 = metrics.raw_scores({"q": [gold]}, {"q": predicted}, "characters")
    assert f1["q"] == pytest.approx(float(expected)) and exact["q"] == pair_scores(gold, predicted)[0]


@pytest.mark.parametrize(
    "marks", ["\uff0c。", "「」", "《》\uff1f\uff01", "、・…", "“”", "\uff08\uff09\uff1a\uff1b", "๏", ".,-_"]
)
def test_characters_are_counted_without_punctuation_of_any_script_and_words_with_it(marks):
    predicted = f"{marks[0]}北京大学{marks[1:]}"
    scores = [metrics.raw_scores({"q": ["北京大学"]}, {"q": predicted}, by) for by in ("characters", "words")]
    assert scores[0] == ({"q": 1}, {"q": 1.0})
    assert (scores[1] == scores[0]) == marks.isascii()  # official: other punctuation than ASCII's stays
    assert metrics.raw_scores({"q": ["10\uff05"]}, {"q": "10"}, "characters")[0]["q"] == 1
    assert metrics.raw_scores({"q": ["10€"]}, {"q": "10"}, "characters")[0]["q"] == 0  # no punctuation


def test_the_best_gold_answer_counts():
    exact, f1 = metrics.raw_scores({"q": ["in the city of Paris", "Paris", "London"]}, {"q": "the Paris"})
    assert (exact, f1) == ({"q": 1}, {"q": 1.0})


def test_golds_that_normalise_to_nothing_are_ignored_while_another_is_left():
    exact, f1 = metrics.raw_scores({"q": ["the", "Paris"]}, {"q": ""})
    assert (exact, f1) == ({"q": 0}, {"q": 0})


def test_golds_that_all_normalise_to_nothing_want_an_empty_answer_yet_count_as_has_answer():
    scores = metrics.official_metrics({"q": ["the", "..."], "r": []}, {"q": "a", "r": "Paris"})
    assert scores == {
        "exact": 50.0, "f1": 50.0, "total": 2,
        "HasAns_exact": 100.0, "HasAns_f1": 100.0, "HasAns_total": 1,
        "NoAns_exact": 0.0, "NoAns_f1": 0.0, "NoAns_total": 1,
    }  # fmt: skip


GOLD = {"a": ["Eiffel Tower in Paris"], "b": ["red", "dark red"], "c": [], "d": []}
PREDICTIONS = {"a": "tower", "b": "Dark red.", "c": "", "d": "blue"}
NULL_SCORES = {"a": 0.1, "b": 0.3, "c": 0.7, "d": 0.2}


def test_scores_worked_out_by_hand_without_null_scores():
    scores = metrics.official_metrics(GOLD, PREDICTIONS)
    assert list(scores) == [*BASIC, *prefixed("HasAns_"), *prefixed("NoAns_")]
    assert list(scores.values()) == [50.0, pytest.approx(60.0), 4, 50.0, pytest.approx(70.0), 2, 50.0, 50.0, 2]


def test_scores_worked_out_by_hand_with_null_scores():
    scores = metrics.official_metrics(GOLD, PREDICTIONS, NULL_SCORES, 0.15, average_precision=True)
    assert list(scores) == [*BASIC, *prefixed("HasAns_"), *prefixed("NoAns_"), *BEST, *AVERAGE_PRECISIONS]
    # Only "a" is answered. Answering a, d, b, c in turn: exact 2, 2, 1, 2, 2 right of 4; F1 2, 2.4, 1.4, 2.4, 2.4.
    assert [scores[key] for key in ("exact", "HasAns_exact", "NoAns_exact")] == [50.0, 0.0, 100.0]
    assert [scores[key] for key in ("f1", "HasAns_f1", "NoAns_f1")] == pytest.approx([60.0, 20.0, 100.0])
    assert [scores[key] for key in BEST] == [50.0, 0.0, pytest.approx(60.0), 0.1]
    # Recall rises at a (1st, right 0 / 0.4 / 1 of 2) and b (3rd, right 1 / 1.4 / 2 of 2).
    exact, f1, oracle = 1 / 3 * 0.5, 0.4 * 0.2 + 1.4 / 3 * 0.5, 0.5 + 2 / 3 * 0.5
    assert [scores[key] for key in AVERAGE_PRECISIONS] == pytest.approx([100 * exact, 100 * f1, 100 * oracle])


def test_the_best_threshold_is_searched_over_best_texts_where_they_are_given():
    thresholded = {"a": "", "b": "", "c": "", "d": ""}
    best_texts = {"a": "Eiffel Tower in Paris", "b": "red", "c": "green", "d": "blue"}
    null_scores = {"a": -4, "b": 2.5, "c": 1.0, "d": 6}
    scores = metrics.official_metrics(
        GOLD, thresholded, null_scores, math.inf, best_texts=best_texts, average_precision=True
    )
    assert [scores[key] for key in ("exact", "HasAns_exact", "NoAns_exact")] == [50.0, 0.0, 100.0]
    # Answering a, c, b, d in turn: 2, 3, 2, 3, 2 right of 4.
    assert [scores[key] for key in BEST] == [75.0, -4, 75.0, -4]
    assert [scores[key] for key in AVERAGE_PRECISIONS] == pytest.approx([100 * (0.5 + 2 / 3 * 0.5)] * 3)
    blind = metrics.official_metrics(GOLD, thresholded, null_scores, math.inf)
    assert [blind[key] for key in BEST] == [50.0, 0.0, 50.0, 0.0]


def test_a_null_score_equal_to_the_threshold_keeps_the_answer():
    gold, predictions = {"a": ["red"]}, {"a": "red"}
    assert metrics.official_metrics(gold, predictions, {"a": 0.5}, 0.5)["exact"] == 100.0
    assert metrics.official_metrics(gold, predictions, {"a": 0.5}, 0.49)["exact"] == 0.0


def test_without_null_scores_each_question_has_the_null_score_zero():
    assert metrics.official_metrics(GOLD, PREDICTIONS, null_threshold=-1.0)["NoAns_exact"] == 100.0
    assert metrics.official_metrics(GOLD, PREDICTIONS, null_threshold=0.0)["NoAns_exact"] == 50.0


def test_a_threshold_is_given_back_as_the_number_it_was():
    scores = metrics.official_metrics({"a": ["red"]}, {"a": "red"}, {"a": 1})
    assert repr(scores["best_exact_thresh"]) == "1"


def test_equal_null_scores_are_searched_in_their_own_order():
    gold, predictions = {"a": ["red"], "b": []}, {"a": "red", "b": "blue"}
    assert metrics.official_metrics(gold, predictions, {"a": 0.5, "b": 0.5})["best_exact"] == 100.0
    assert metrics.official_metrics(gold, predictions, {"b": 0.5, "a": 0.5})["best_exact"] == 50.0


@pytest.mark.parametrize(("kind", "golds"), [("HasAns_", ["red"]), ("NoAns_", [])])
def test_a_group_without_questions_has_no_keys(kind, golds):
    scores = metrics.official_metrics({"a": golds}, {"a": "red"}, {"a": 0.5}, average_precision=True)
    curves = AVERAGE_PRECISIONS if golds else []
    assert list(scores) == [*BASIC, *prefixed(kind), *BEST, *curves]


WORDS = st.sampled_from(["the", "A", "an", "cat", "Cat!", "dog", "the—dog", "«cat»", "_", "...", "ANT", "é", "\u2003"])
TEXTS = st.lists(WORDS, max_size=5).map(" ".join)
NUMBERS = st.sampled_from([-2.5, -1, 0, 0.0, 0.25, 0.5, 1, 1.0]) | st.floats(-10, 10)


@st.composite
def scored_data(draw):
    keys = [f"q{i}" for i in range(draw(st.integers(1, 8)))]
    golds = st.lists(TEXTS, max_size=3)
    predicted = {key: draw(TEXTS) for key in draw(st.permutations(keys))}
    best = {key: draw(TEXTS) for key in keys}
    return (
        {key: draw(golds) for key in keys},
        predicted,
        best,
        {key: draw(NUMBERS) for key in draw(st.permutations(keys))},
    )


def plain_words(text):
    """The words left of a text, found letter by letter: runs of letters and digits that are articles vanish."""
    letters = [letter for letter in text.lower() if letter not in string.punctuation]
    runs = ["".join(run) for _, run in groupby(letters, key=str.isalnum)]
    return "".join(" " if run in ("a", "an", "the") else run for run in runs).split()


def plain_scores(golds, text):
    """(exact match, F1) as exact fractions, against the best gold."""
    predicted = plain_words(text)
    wanted = [words for words in map(plain_words, golds) if words] or [[]]
    f1s = []
    for words in wanted:
        rest, shared = list(words), 0
        for word in predicted:
            if word in rest:
                rest.remove(word)
                shared += 1
        both = len(words) + len(predicted)
        f1s.append(Fraction(2 * shared, both) if both else Fraction(1))
    return Fraction(predicted in wanted), max(f1s)


def percent(values):
    values = list(values)
    return float(100 * sum(values, Fraction(0)) / len(values))


@given(scored_data(), NUMBERS)
def test_means_agree_with_a_plain_reference(data, threshold):
    gold, predictions, _, null_scores = data
    for given_scores in (None, null_scores):
        scores = metrics.official_metrics(gold, predictions, given_scores, threshold)
        expected = {}
        answerable, unanswerable = [k for k in gold if gold[k]], [k for k in gold if not gold[k]]
        for prefix, keys in (("", list(gold)), ("HasAns_", answerable), ("NoAns_", unanswerable)):
            pairs = []
            for key in keys:
                kept = (given_scores[key] if given_scores else 0) <= threshold
                right_when_empty = Fraction(gold[key] == [])
                pairs.append(plain_scores(gold[key], predictions[key]) if kept else (right_when_empty,) * 2)
            if pairs:
                expected[prefix + "exact"] = percent(pair[0] for pair in pairs)
                expected[prefix + "f1"] = percent(pair[1] for pair in pairs)
                expected[prefix + "total"] = len(pairs)
        shown = {key: value for key, value in scores.items() if not key.startswith("best")}
        assert list(shown) == list(expected)
        assert shown == pytest.approx(expected, rel=1e-12)


def plain_best(gold, texts, null_scores, which):
    """Every cut of the questions, sorted by null score: (mean score in percent, null score of the last answered)."""
    order = sorted(null_scores, key=lambda key: null_scores[key])
    cuts = []
    for size in range(len(order) + 1):
        answered = order[:size]
        # Past the cut, and for an empty text to a question without an answer, nothing is answered.
        right = [
            plain_scores(gold[key], texts[key])[which] if gold[key] else Fraction(not texts[key]) for key in answered
        ]
        right += [Fraction(not gold[key]) for key in order[size:]]
        cuts.append((percent(right), null_scores[order[size - 1]] if size else 0.0))
    return cuts


@given(scored_data(), st.booleans())
def test_best_thresholds_agree_with_trying_every_cut(data, with_best_texts):
    gold, predictions, best_texts, null_scores = data
    scores = metrics.official_metrics(
        gold, predictions, null_scores, best_texts=best_texts if with_best_texts else None
    )
    for which, name in enumerate(("exact", "f1")):
        cuts = plain_best(gold, best_texts if with_best_texts else predictions, null_scores, which)
        best = max(value for value, _ in cuts)
        assert scores[f"best_{name}"] == pytest.approx(best, rel=1e-12)
        reaching = [threshold for value, threshold in cuts if value > best - 1e-9]
        assert scores[f"best_{name}_thresh"] in reaching
        if name == "exact":  # whole numbers, so without doubt about rounding it is the first
            assert scores["best_exact_thresh"] == reaching[0]


@given(scored_data(), st.booleans())
def test_average_precisions_agree_with_a_sum_over_distinct_thresholds(data, with_best_texts):
    gold, predictions, best_texts, null_scores = data
    texts = best_texts if with_best_texts else predictions
    scores = metrics.official_metrics(
        gold, predictions, null_scores, best_texts=best_texts if with_best_texts else None, average_precision=True
    )
    answerable = [key for key in gold if gold[key]]
    assert [key for key in scores if key.startswith("pr_")] == (AVERAGE_PRECISIONS if answerable else [])
    for which, name in enumerate(AVERAGE_PRECISIONS if answerable else []):
        area, recall_before = Fraction(0), Fraction(0)
        for threshold in sorted(set(null_scores.values())):
            answered = [key for key in gold if null_scores[key] <= threshold]
            right = sum(
                (Fraction(1) if which == 2 else plain_scores(gold[key], texts[key])[which])
                for key in answered
                if gold[key]
            )
            recall = Fraction(right) / len(answerable)
            area += Fraction(right) / len(answered) * (recall - recall_before)
            recall_before = recall
        assert scores[name] == pytest.approx(float(100 * area), rel=1e-12, abs=1e-12)


@given(TEXTS, TEXTS)
def test_pairs_agree_with_a_plain_reference(gold, predicted):
    exact, f1 = plain_scores([gold], predicted)
    assert pair_scores(gold, predicted) == (exact, pytest.approx(float(f1), rel=1e-15))


@given(st.text(max_size=20))
def test_normalising_any_text_agrees_with_a_plain_reference(text):
    assert metrics.normalize_answer(text) == " ".join(plain_words(text))


def test_a_question_without_a_prediction_is_an_error_that_lists_some():
    gold = {f"q{i}": [] for i in range(9)}
    with pytest.raises(
        InputError, match=r"predictions: nothing for 8 of 9 questions \(q1, q2, q3, q4, q5 and 3 more\)"
    ):
        metrics.official_metrics(gold, {"q0": ""})
    with pytest.raises(InputError, match="q1"):
        metrics.raw_scores(gold, {"q0": ""})


def test_an_unknown_id_is_an_error_in_each_dictionary():
    gold, known, unknown = {"a": []}, {"a": ""}, {"a": "", "stranger": ""}
    with pytest.raises(InputError, match=r"predictions: .*stranger"):
        metrics.official_metrics(gold, unknown)
    with pytest.raises(InputError, match=r"null scores: .*stranger"):
        metrics.official_metrics(gold, known, {"a": 0.0, "stranger": 1.0})
    with pytest.raises(InputError, match=r"best texts: .*stranger"):
        metrics.official_metrics(gold, known, {"a": 0.0}, best_texts=unknown)


def test_null_scores_and_best_texts_that_lack_a_question_are_errors():
    gold, predictions = {"a": [], "b": []}, {"a": "", "b": ""}
    with pytest.raises(InputError, match=r"null scores: .*\(b\)"):
        metrics.official_metrics(gold, predictions, {"a": 0.5})
    with pytest.raises(InputError, match=r"best texts: .*\(a\)"):
        metrics.official_metrics(gold, predictions, {"a": 0.5, "b": 0.5}, best_texts={"b": ""})


def test_data_without_questions_cannot_be_scored():
    with pytest.raises(InputError, match="no question"):
        metrics.official_metrics({}, {})


def test_average_precisions_without_null_scores_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="need null scores"):
        metrics.official_metrics(GOLD, PREDICTIONS, average_precision=True)


def test_a_curve_has_a_point_for_each_distinct_null_score():
    exact, f1 = metrics.raw_scores(GOLD, PREDICTIONS)
    curves = metrics.precision_recall_curves(GOLD, exact, f1, {"a": 0.1, "b": 0.3, "c": 0.3, "d": 0.1})
    assert list(curves) == ["exact", "f1", "oracle"]
    assert list(curves["exact"]) == [(-math.inf, 1.0, 0.0), (0.1, 0.0, 0.0), (0.3, 0.25, 0.5)]
    assert list(curves["oracle"]) == [(-math.inf, 1.0, 0.0), (0.1, 0.5, 0.5), (0.3, 0.5, 1.0)]


def test_importing_the_module_loads_no_heavy_library():
    heavy = {"torch", "transformers", "pandas", "datasets", "numpy", "matplotlib"}
    code = f"import sys, qa.metrics; print(sorted({heavy!r} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(metrics.__file__).parents[2])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.skipif("SQUAD_SHARED" not in os.environ, reason="SQUAD_SHARED names no folder with real SQuAD 2.0 data")
def test_real_gold_answers_score_full_marks():
    path = next(Path(os.environ["SQUAD_SHARED"]).rglob("validation.json.gz"))
    gold = gold_texts(path)
    predictions = {key: texts[-1] if texts else "" for key, texts in gold.items()}
    null_scores = {key: float(not texts) for key, texts in gold.items()}
    scores = metrics.official_metrics(gold, predictions, null_scores, average_precision=True)
    assert scores["HasAns_total"] + scores["NoAns_total"] == scores["total"] == len(gold)
    marks = [value for key, value in scores.items() if not key.endswith(("total", "thresh"))]
    assert marks == pytest.approx([100.0] * len(marks), abs=1e-9)
