"""Ranges in flat arrays: pieces that lie end to end, found, gathered and grouped without a loop in Python."""

from collections.abc import Iterator, Sequence

import numpy as np


def bounds_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Bounds of pieces with these lengths that lie end to end: piece i is [bounds[i], bounds[i+1]).

    int64 of shape (pieces + 1,), the first 0.
    """
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def concatenated_ranges(begins: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The whole numbers of many ranges, end to end: int64 of shape (sizes.sum(),).

    Equal to `np.concatenate([np.arange(begin, begin + size) for begin, size in zip(begins, sizes)])`. Both arguments
    have the shape (ranges,).
    """
    places = np.cumsum(sizes) - sizes  # where each range begins in the result
    return np.repeat(begins - places, sizes) + np.arange(sizes.sum())


def slices_within(sizes: np.ndarray, limit: int) -> Iterator[slice]:
    """Consecutive slices of `sizes` whose sums are at most `limit`. A size above `limit` is a slice of its own."""
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(ends):
        sum_before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, sum_before + limit, "right")))
        yield slice(begin, end)
        begin = end
