"""Training on some of the questions, drawn at random, as a learning curve needs it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qa.common.errors import InputError
from qa.windows.read_windows import arrow_table


def windows_of_drawn(folders: Sequence[str | Path], questions: int, seed: int) -> np.ndarray:
    """The windows of so many drawn questions: their numbers over all folders, int64 (windows,), ascending.

    With the same seed, fewer questions are the first ones of more. Raises InputError if there are not so many.
    """
    records, first = [], 0
    for folder in folders:
        record = arrow_table(folder, ["record"]).column("record").to_numpy()
        records.append(record + first)
        first += int(record.max(initial=-1)) + 1
    _, question = np.unique(np.concatenate(records), return_inverse=True)
    count = int(question.max(initial=-1)) + 1
    if questions > count:
        raise InputError(
            f"training.questions: {questions:,}, but there are {count:,} questions to train on; set it to at most "
            f"{count:,}, or to null for all"
        )
    drawn = np.zeros(count, bool)
    drawn[np.random.default_rng(seed).permutation(count)[:questions]] = True
    return np.flatnonzero(drawn[question])
