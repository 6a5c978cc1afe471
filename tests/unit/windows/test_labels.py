"""Labels found by one search in all contexts' offsets, against a plain scan of each context's."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plain_windows import exact_label, walkthrough_label
from qa.windows.labels import exact_labels, walkthrough_labels
from qa.windows.tokenizer import EncodedText, EncodedTexts


def spans(in_order):
    """Offsets of a context's tokens: in order as tokenizers nearly always give them, widths of 0 among them, or not."""
    if not in_order:
        return st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)
    bounds = st.lists(st.integers(0, 30), max_size=12).map(sorted)
    return bounds.map(lambda places: list(pairwise(places)))


contexts_of_spans = st.lists(st.one_of(spans(True), spans(True), spans(False)), min_size=1, max_size=5)
answers = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 33), st.integers(0, 9)), max_size=12)


def texts_of(contexts):
    arrays = [np.array(offsets, np.int32).reshape(-1, 2) for offsets in contexts]
    return EncodedTexts.joined(EncodedText(np.arange(len(pairs), dtype=np.int32), *pairs.T) for pairs in arrays)


def columns(rows, width):
    return np.array(rows, np.int64).reshape(-1, width).T


@given(contexts=contexts_of_spans, asked=answers)
def test_exact_labels_are_those_of_a_scan_whether_offsets_are_in_order_or_not(contexts, asked):
    asked = [(context % len(contexts), start, start + width) for context, start, width in asked]
    found = exact_labels(texts_of(contexts), *columns(asked, 3))
    assert found.tolist() == [list(exact_label(contexts[context], start, stop)) for context, start, stop in asked]


@given(contexts=contexts_of_spans, asked=answers, data=st.data())
def test_the_walkthroughs_labels_are_those_of_its_scans_in_any_part_of_a_context(contexts, asked, data):
    asked = [(context % len(contexts), start, start + width) for context, start, width in asked]
    parts = [
        sorted(data.draw(st.tuples(*[st.integers(0, len(contexts[context]))] * 2), label="part"))
        for context, _, _ in asked
    ]
    context, start, stop = columns(asked, 3)
    found = walkthrough_labels(texts_of(contexts), context, tuple(columns(parts, 2)), start, stop)
    expected = [
        list(walkthrough_label(contexts[context][slice(*part)], start, stop))
        for (context, start, stop), part in zip(asked, parts, strict=True)
    ]
    assert found.tolist() == expected
