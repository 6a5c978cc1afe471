"""Ensembles: one distribution over spans of text from several, against dictionaries of probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa.decoding.answers import Candidates, decide
from qa.decoding.ensembles import average

scores = st.floats(-30, 30)
spans = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(4, 7)), scores, max_size=7)
variant_lists = st.integers(1, 4).flatmap(  # so many records; of each variant and record the spans and the null score
    lambda records: st.lists(
        st.lists(st.tuples(spans, scores), min_size=records, max_size=records), min_size=1, max_size=4
    )
)
many = settings(max_examples=200, deadline=None)
ALL = 1000


def candidates(records):
    """Candidates as a decoding gives them: by record, best first, equals in the order of start and stop."""
    rows = [
        (number, *span, score)
        for number, (found, _) in enumerate(records)
        for span, score in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ]
    columns = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
    places = [np.array(column, np.int64) for column in columns[:3]]
    nulls = np.array([null for _, null in records], float)
    return Candidates(*places, np.array(columns[3], float), nulls, np.ones(len(records), int))


def listed(found, record):
    """Spans and scores of a record, in their order."""
    mine = np.flatnonzero(found.record == record)
    return [((int(found.start[place]), int(found.stop[place])), float(found.score[place])) for place in mine]


def probabilities(found, null):
    """A variant's probabilities of spans and of no answer, by one softmax in plain Python."""
    top = max([null, *found.values()])
    weights = {span: math.exp(score - top) for span, score in found.items()}
    total = sum(weights.values()) + math.exp(null - top)
    return {span: weight / total for span, weight in weights.items()}, math.exp(null - top) / total


def slowly(variants, record):
    """The mean of the variants' probabilities for a record."""
    each = [probabilities(*variant[record]) for variant in variants]
    every = {span for spans, _ in each for span in spans}
    mean = {span: sum(spans.get(span, 0.0) for spans, _ in each) / len(each) for span in every}
    return mean, sum(null for _, null in each) / len(each)


@many
@given(variant_lists)
def test_probabilities_are_the_means_of_the_variants_and_sum_to_1(variants):
    found = average([candidates(variant) for variant in variants], ALL)
    decision = decide(found, 0.0)
    for record in range(len(variants[0])):
        expected, null = slowly(variants, record)
        mine = found.record == record
        assert {span for span, _ in listed(found, record)} == expected.keys() and mine.sum() == len(expected)
        for (span, score), probability in zip(listed(found, record), decision.probability[mine], strict=True):
            assert math.exp(score) == pytest.approx(expected[span], rel=1e-9)
            assert probability == pytest.approx(expected[span], rel=1e-9)
        assert decision.null_probability[record] == pytest.approx(null, rel=1e-9)
        assert decision.probability[mine].sum() + decision.null_probability[record] == pytest.approx(1)


@many
@given(variant_lists, st.integers(1, 9))
def test_the_best_are_kept_in_order_of_record_and_score(variants, size):
    every = average([candidates(variant) for variant in variants], ALL)
    found = average([candidates(variant) for variant in variants], size)
    assert (np.diff(found.record) >= 0).all()
    for record in range(len(variants[0])):
        assert listed(found, record) == listed(every, record)[:size]
        expected = sorted(listed(every, record), key=lambda item: (-item[1], item[0]))
        assert listed(every, record) == expected
    assert found.null_score.tolist() == every.null_score.tolist()


@many
@given(variant_lists, st.randoms(use_true_random=False))
def test_the_order_of_the_variants_does_not_matter(variants, draw):
    mixed = draw.sample(variants, len(variants))
    one, other = (average([candidates(variant) for variant in order], ALL) for order in (variants, mixed))
    for record in range(len(variants[0])):
        found = dict(listed(other, record))
        assert found == pytest.approx(dict(listed(one, record)))
    assert other.null_score == pytest.approx(one.null_score)


@many
@given(variant_lists, st.integers(1, 3))
def test_one_variant_or_copies_of_it_answer_as_it_does(variants, copies):
    variant = candidates(variants[0])
    alone, found = decide(variant, 1.5), average([variant] * copies, ALL)
    together = decide(found, 1.5)
    assert together.bounds.tolist() == alone.bounds.tolist()
    some = np.diff(alone.bounds) > 0
    assert together.difference[some] == pytest.approx(alone.difference[some], abs=1e-9)
    assert together.null_probability == pytest.approx(alone.null_probability)
    for record in range(len(variants[0])):
        assert dict(listed(found, record)).keys() == dict(listed(variant, record)).keys()
        shares = [
            dict(zip(*place, strict=True))
            for place in (
                (dict(listed(each, record)), decision.probability[each.record == record])
                for each, decision in ((variant, alone), (found, together))
            )
        ]
        assert shares[0] == pytest.approx(shares[1])


def test_a_span_that_only_one_of_two_variants_has_counts_half():
    two = [candidates([({(0, 4): 5.0, (5, 9): 5.0}, 5.0)]), candidates([({(5, 9): 7.0}, 7.0)])]
    found = average(two, ALL)
    assert [span for span, _ in listed(found, 0)] == [(5, 9), (0, 4)]
    assert np.exp(found.score) == pytest.approx([5 / 12, 1 / 6]) and np.exp(found.null_score) == pytest.approx([5 / 12])


def test_scores_on_other_scales_weigh_no_more_than_their_probabilities():
    sure, loud = ({(0, 4): 3.0}, 0.0), ({(5, 9): 1003.0}, 1000.0)
    found = average([candidates([sure]), candidates([loud])], ALL)
    assert found.score[0] == pytest.approx(found.score[1])
    assert decide(found, 0.0).probability.sum() == pytest.approx(1 / (1 + math.exp(-3)))


@pytest.mark.parametrize("size", [1e4, 3e38, 6e38])
def test_huge_scores_stay_finite(size):
    variants = [[({(0, 4): size, (5, 9): -size}, 0.0)], [({(0, 4): -size, (5, 9): -size}, size)]]
    with np.errstate(all="raise", under="ignore"):
        found = average([candidates(variant) for variant in variants], ALL)
        decision = decide(found, 0.0)
    assert np.isfinite(found.score).all() and np.isfinite(found.null_score).all()
    assert decision.probability.tolist() == pytest.approx([0.5, 0]) and decision.null_probability[0] == 0.5
    assert decision.answered.tolist() == [True]


def test_a_candidate_without_any_chance_takes_none_from_the_others():
    found = average([candidates([({(0, 4): -math.inf, (5, 9): 1.0}, 1.0)])] * 2, ALL)
    assert listed(found, 0)[0] == ((5, 9), pytest.approx(math.log(0.5))) and found.score[1] == -math.inf
    assert decide(found, 0.0).probability.tolist() == pytest.approx([0.5, 0])


def test_records_without_a_span_keep_their_place_and_stay_silent():
    silent, sure = ({}, 0.0), ({(2, 5): 4.0}, 0.0)
    found = average([candidates([silent, sure, silent]), candidates([silent, silent, silent])], ALL)
    decision = decide(found, 99.0)
    assert decision.bounds.tolist() == [0, 0, 1, 1] and decision.answered.tolist() == [False, True, False]
    assert decision.null_probability[[0, 2]].tolist() == [1, 1]
    empty = average([candidates([silent]), candidates([silent])], ALL)
    assert len(empty.record) == 0 and empty.null_score.tolist() == pytest.approx([0])
