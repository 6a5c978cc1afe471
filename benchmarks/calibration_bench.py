"""Calibrated null thresholds on draws of real questions: what they gain over 0, and how often they lose.

    python benchmarks/calibration_bench.py results/{run}/{variant}/{dataset}/{split}/{decoding}/nbest.parquet

Any n-best decoding of a finished run will do: its threshold plays no part. Each draw takes n questions as held out,
with the file's share of unanswerable ones, and chooses a threshold on them. Then it compares the F1 of the other
questions with their F1 at threshold 0. --unanswerable leaves questions out until they have another share of
unanswerable ones. --shift adds to the null scores, to try models for which threshold 0 is nearly right, or wrong.
"""

import argparse
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from qa.common.text import text_table
from qa.decoding.nbest import read_nbest
from qa.decoding.null_threshold import CalibrationQuestions, fit_threshold
from qa.metrics import squad

SIZES = (82, 246, 600, 1_000)
DRAWS = 300
SEED = 0


class Outcome(NamedTuple):
    """Of an estimator: its mean gain in F1 over threshold 0, in points, and the share of draws with a loss."""

    gain: float
    worse: float


def read_pool(nbest_file: str | Path) -> CalibrationQuestions:
    """The questions of nbest.parquet with the scores of their best spans."""
    nbest = read_nbest(nbest_file)
    exact, f1 = ([scores[key] for key in nbest.golds] for scores in squad.raw_scores(nbest.golds, nbest.best))
    best = [nbest.score[first] if first < stop else -np.inf for first, stop in pairwise(nbest.bounds.tolist())]
    unanswerable = [not golds for golds in nbest.golds.values()]
    return CalibrationQuestions(
        nbest.null_score - np.array(best), np.array(exact, float), np.array(f1), np.array(unanswerable)
    )


def highest_f1(questions: CalibrationQuestions) -> float:
    """The threshold with the greatest mean F1, half way between two questions: the estimator before smoothing."""
    order = np.argsort(questions.difference, kind="stable")
    order = order[questions.difference[order] < np.inf]
    difference = questions.difference[order]
    total = np.concatenate([[0.0], np.cumsum((questions.f1 - questions.unanswerable)[order])])
    apart = np.concatenate([[True], difference[1:] > difference[:-1], [True]])  # equals are answered together
    answered = np.flatnonzero(apart)[np.argmax(total[apart])]
    ends = np.concatenate([[difference[0] - 1.0], difference, [difference[-1] + 1.0]])
    return float((ends[answered] + ends[answered + 1]) / 2)


def calibrated(questions: CalibrationQuestions) -> float:
    """The threshold that `calibrate` finds."""
    return fit_threshold(questions, "f1", np.ones(len(questions.f1)))


ESTIMATORS: dict[str, Callable[[CalibrationQuestions], float]] = {"highest F1": highest_f1, "calibrated": calibrated}
HINDSIGHT = "hindsight"  # the highest F1 on the very questions it is measured on


def outcomes(pool: CalibrationQuestions, size: int, draws: int = DRAWS, seed: int = SEED) -> dict[str, Outcome]:
    """The outcome of each estimator, and of the best threshold in hindsight, for `size` questions held out."""
    random = np.random.default_rng(seed)
    groups = [np.flatnonzero(pool.unanswerable), np.flatnonzero(~pool.unanswerable)]
    unanswerable = round(size * len(groups[0]) / len(pool.f1))
    gains: dict[str, list[float]] = {name: [] for name in (*ESTIMATORS, HINDSIGHT)}
    for _ in range(draws):
        parts = [random.permutation(group) for group in groups]
        drawn = np.concatenate([parts[0][:unanswerable], parts[1][: size - unanswerable]])
        held_out, rest = part_of(pool, drawn), part_of(pool, np.setdiff1d(np.arange(len(pool.f1)), drawn))
        found = {name: estimate(held_out) for name, estimate in ESTIMATORS.items()} | {HINDSIGHT: highest_f1(rest)}
        gain, at_0 = rest.f1 - rest.unanswerable, rest.difference <= 0
        for name, threshold in found.items():
            gains[name].append(100 * float(np.mean(gain * (rest.difference <= threshold) - gain * at_0)))
    return {
        name: Outcome(float(np.mean(values)), float(np.mean(np.array(values) < 0))) for name, values in gains.items()
    }


def part_of(pool: CalibrationQuestions, chosen: np.ndarray) -> CalibrationQuestions:
    """Some of the questions."""
    return CalibrationQuestions(*(values[chosen] for values in vars(pool).values()))


def changed(
    pool: CalibrationQuestions, shift: float = 0.0, unanswerable: float | None = None, seed: int = SEED
) -> CalibrationQuestions:
    """The pool with greater null scores, and with a share of unanswerable questions, from 0 to 1, both exclusive."""
    chosen = np.arange(len(pool.f1))
    if unanswerable is not None:
        order = np.random.default_rng(seed).permutation(chosen)
        groups = [order[pool.unanswerable[order]], order[~pool.unanswerable[order]]]
        size = min(len(groups[0]) / unanswerable, len(groups[1]) / (1 - unanswerable))
        chosen = np.concatenate(
            [groups[0][: round(size * unanswerable)], groups[1][: round(size * (1 - unanswerable))]]
        )
    part = part_of(pool, np.sort(chosen))
    return CalibrationQuestions(part.difference + shift, part.exact, part.f1, part.unanswerable)


def table(pool: CalibrationQuestions, draws: int = DRAWS, seed: int = SEED) -> str:
    """A row for each estimator, a column for each of SIZES that leaves at least as many questions to measure on."""
    sizes = [size for size in SIZES if 2 * size <= len(pool.f1)]
    columns = [outcomes(pool, size, draws, seed) for size in sizes]
    rows = [["held out", *(f"{size:,}" for size in sizes)]]
    for name in (*ESTIMATORS, HINDSIGHT):
        rows.append([name, *(f"{column[name].gain:+.2f} ({column[name].worse:.0%} worse)" for column in columns)])
    return text_table(rows)


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nbest", nargs="+", help="nbest.parquet of an n-best decoding")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--unanswerable", type=float, help="share of unanswerable questions, between 0 and 1")
    parser.add_argument("--shift", type=float, default=0.0, help="logits added to each null score")
    options = parser.parse_args()
    for file in options.nbest:
        pool = changed(read_pool(file), options.shift, options.unanswerable)
        print(
            f"\n{file}: {len(pool.f1):,} questions, {pool.unanswerable.mean():.0%} unanswerable. F1 over threshold 0:\n"
        )
        print(table(pool, options.draws, options.seed))


if __name__ == "__main__":
    main()
