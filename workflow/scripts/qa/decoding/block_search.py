"""What `postprocess.n_best` has only for memory and speed: blocks of windows, and their best pairs without a loop."""

from collections.abc import Iterator

import numpy as np

BLOCK = 50_000  # windows whose spans are compared at once


def blocks_of_questions(record: np.ndarray) -> Iterator[tuple[int, int]]:
    """Bounds of blocks of about BLOCK windows, with all windows of their questions: what is in memory at once."""
    begin = 0
    while begin < len(record):
        end = int(np.searchsorted(record, record[min(begin + BLOCK, len(record)) - 1], "right"))
        yield begin, end
        begin = end


def joined(parts: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """The columns of all parts, one after the other.

    Empties the list column by column, since both forms of all would be large.
    """
    columns = [list(column) for column in zip(*parts, strict=True)]
    parts.clear()
    return [np.concatenate(columns.pop(0)) for _ in range(len(columns))]


def greatest_pairs(
    start: np.ndarray, end: np.ndarray, allowed: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window, start and end of the `size` greatest finite sums of each window, the first pairs among equals.

        for window in windows:
            pairs = [(i, j) for i in range(k) for j in range(k) if allowed[window, i, j]]
            chosen = sorted(pairs, key=lambda pair: -(start[window, i] + end[window, j]))[:size]

    `start`, `end`: float32 (W, k); `allowed`: bool (W, k, k), which pairs count. Within a window, pairs come in the
    order of i and j, not of their sums.
    """
    windows, k = start.shape
    # 1. Sums in float32, which is fast, but sums that differ a little may come out equal.
    rough = start[:, :, None] + end[:, None, :]
    rough = np.where(allowed & np.isfinite(rough), rough, -np.inf).reshape(windows, -1)
    chosen = rough > -np.inf
    if size < k * k:
        # 2. In each window, all pairs that are as great as the pair of rank `size`, within the rounding.
        least = np.partition(rough, -size, axis=1)[:, [-size]]
        chosen &= rough >= np.nextafter(least, np.float32(-np.inf))
        # 3. Where those are too many, exact sums decide.
        crowded = np.flatnonzero(chosen.sum(axis=1) > size)
        exact = start[crowded, :, None].astype(np.float64) + end[crowded, None, :]
        exact = np.where(chosen[crowded], exact.reshape(-1, k * k), -np.inf)
        order = np.argsort(-exact, axis=1, kind="stable")[:, :size]
        chosen[crowded] = False
        chosen[crowded[:, None], order] = True
    window, pair = np.divmod(np.flatnonzero(chosen), k * k)
    return window, *np.divmod(pair, k)
