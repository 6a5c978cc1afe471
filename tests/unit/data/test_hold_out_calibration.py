"""Questions held out of training: whole articles, never a text on both sides, whatever the order."""

import random
from collections import Counter

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from qa.common.errors import InputError
from qa.data.hold_out_calibration import LARGE_ARTICLE, divide, held_out
from qa.data.prepare_questions import convert

# a question's title and context; a context may stand under several titles
questions = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c", "d", "e"]), st.integers(0, 30).map("text {}".format)),
    min_size=1,
    max_size=120,
)
shares = st.floats(0.0, 0.5)


def chosen(pairs: list[tuple[str, str]], share: float) -> list[bool]:
    texts, places = {}, []
    for name, column in zip(("title", "context"), zip(*pairs, strict=True), strict=True):
        texts[name] = sorted(set(column))
        places.append(np.array([texts[name].index(text) for text in column]))
    return held_out(*places, texts, share)[0].tolist()


def articles(count: int, each: int) -> list[tuple[str, str]]:
    """Questions of so many articles, two on each context."""
    return [(f"article {a}", f"text {a}, {q // 2}") for a in range(count) for q in range(each)]


@settings(max_examples=150, deadline=None)
@given(questions, shares)
def test_no_context_is_on_both_sides(pairs, share):
    sides = {}
    for (_, context), held in zip(pairs, chosen(pairs, share), strict=True):
        assert sides.setdefault(context, held) == held


@settings(max_examples=150, deadline=None)
@given(questions, shares, st.randoms(use_true_random=False))
def test_the_order_of_the_questions_does_not_matter(pairs, share, draw):
    mixed = draw.sample(range(len(pairs)), len(pairs))
    before, after = chosen(pairs, share), chosen([pairs[number] for number in mixed], share)
    assert after == [before[number] for number in mixed]


@settings(max_examples=150, deadline=None)
@given(questions, shares)
def test_articles_that_are_not_too_large_go_as_a_whole(pairs, share):
    pairs = [(title, f"{title}, {context}") for title, context in pairs]  # no context under two titles
    held = chosen(pairs, share)
    for title, size in Counter(title for title, _ in pairs).items():
        if title and size <= LARGE_ARTICLE * share * len(pairs):
            assert len({side for (each, _), side in zip(pairs, held, strict=True) if each == title}) == 1


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_share_is_nearly_what_was_asked_for_where_articles_are_small(share):
    held = chosen(articles(2_000, 2), share)
    assert abs(sum(held) / 4_000 - share) < 4 * (share / 2_000) ** 0.5  # as drawn article by article


def test_articles_that_take_no_part_in_training_are_not_always_those_that_come_first():
    pairs = articles(100, 4)
    held = {title for (title, _), side in zip(pairs, chosen(pairs, 0.1), strict=True) if side}
    assert 2 < len(held) < 25 and held != {f"article {number}" for number in range(len(held))}


def test_an_article_is_on_the_same_side_in_every_split_whatever_stands_beside_it():
    one = articles(60, 6)
    other = [pair for pair in articles(90, 6) if int(pair[0].split()[1]) % 3]
    sides = dict(zip(one, chosen(one, 0.3), strict=True)), dict(zip(other, chosen(other, 0.3), strict=True))
    both = sides[0].keys() & sides[1].keys()
    assert len(both) > 60 and all(sides[0][pair] == sides[1][pair] for pair in both)


@pytest.mark.parametrize("title", ["", "all of it"])
def test_contexts_go_one_by_one_where_titles_are_missing_or_one_holds_too_much(title):
    pairs = [(title, f"text {number // 4}") for number in range(400)]
    held = chosen(pairs, 0.1)
    assert 8 < sum(held) < 90
    assert 4 * len({context for (_, context), side in zip(pairs, held, strict=True) if side}) == sum(held)


def test_a_large_article_among_small_ones_is_divided_and_the_small_ones_are_not():
    pairs = [*articles(50, 4), *(("large", f"page {number}") for number in range(200))]
    random.Random(1).shuffle(pairs)
    held = chosen(pairs, 0.2)
    assert 30 < sum(held) < 140
    sides = {}
    for (title, _), side in zip(pairs, held, strict=True):
        sides.setdefault(title, set()).add(side)
    assert sides.pop("large") == {True, False} and all(len(each) == 1 for each in sides.values())


def test_titles_are_no_contexts_and_other_texts_give_other_choices():
    one = chosen([("", f"t{number}") for number in range(40)], 0.25)
    other = chosen([(f"t{number}", f"text {number}") for number in range(40)], 0.25)
    assert any(one) and any(other) and one != other


@pytest.fixture
def records(tmp_path):
    convert([tiny.write_squad(tmp_path / "q.json", questions=20)], tmp_path / "records.parquet")
    return tmp_path / "records.parquet"


def test_both_sides_are_records_in_the_same_schema_and_order_and_nothing_is_lost(records, tmp_path):
    before = parquet.read_table(records)
    numbers = divide(records, 0.3, tmp_path / "kept.parquet", tmp_path / "held.parquet")
    kept, held = parquet.read_table(tmp_path / "kept.parquet"), parquet.read_table(tmp_path / "held.parquet")
    assert numbers == (kept.num_rows, held.num_rows) and sum(numbers) == 20 and min(numbers) > 1
    assert kept.schema == held.schema == before.schema
    sides = chosen([(row["title"], row["context"]) for row in before.to_pylist()], 0.3)
    assert kept.to_pylist() == [row for row, side in zip(before.to_pylist(), sides, strict=True) if not side]
    assert held.to_pylist() == [row for row, side in zip(before.to_pylist(), sides, strict=True) if side]


@pytest.mark.parametrize(("share", "kept", "held"), [(0.0, "20", "0"), (1e-9, "20", "0"), (1.0, "0", "20")])
def test_a_side_without_questions_is_refused_with_both_numbers(share, kept, held, records, tmp_path):
    with pytest.raises(InputError) as error:
        divide(records, share, tmp_path / "kept.parquet", tmp_path / "held.parquet")
    assert f"leaves {kept} for training and {held} for calibration; change hold_out" in str(error.value)
    assert not list(tmp_path.glob("*kept*")) and not list(tmp_path.glob("*held*"))
