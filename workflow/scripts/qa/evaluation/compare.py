"""Comparison: the paired difference between two runs' or decodings' answers to the same questions.

A question's score is its mean over a run's variants (seeds), so intervals and p-values are over questions, for these
very trainings: they tell what other questions of the kind might give, not what other seeds would. The spread over seeds
is in summary.csv.
"""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.files import written_aside
from qa.common.text import text_table
from qa.data import read_records
from qa.evaluation import score
from qa.metrics import squad, statistics
from qa.metrics.statistics import Ratios

METRICS = ("exact", "f1")
KEYS = ("dataset", "split", "run", "decoding", "reference_run", "reference_decoding")
COUNTS = ("questions", "seeds", "reference_seeds", "resampled")
OF_METRIC = ("", "_reference", "_difference", "_low", "_high", "_p", "_p_holm", "_wins", "_losses", "_ties")
COLUMNS = (*KEYS, *COUNTS, *(metric + part for metric in METRICS for part in OF_METRIC))
NOTABLE = 0.05  # a corrected p-value below it is commonly called significant
PLACES = 12  # decimals of a difference: means over seeds that are equal may differ by rounding

log = logging.getLogger(__name__)

Pair = tuple[str, str, str, str, str]  # dataset/split, run, decoding, reference run, its decoding
Answered = tuple[str, str, str, str]  # run, variant, dataset/split, decoding


def compare(
    pairs: Sequence[Pair],
    answered: Sequence[Answered],
    files: Sequence[str],
    records: Mapping[str, str],
    target: str | Path,
) -> list[dict[str, Any]]:
    """Write comparison.csv, a row (COLUMNS) a pair, and return its rows.

    `answered` says of each answers.json in `files` whose it is; `records` are the records files by `dataset/split`.
    Scores are means in percent, differences (run minus reference) and their 95 % intervals percentage points; `_p` are
    of a paired randomisation test, `_p_holm` the same corrected for the number of rows, each metric by itself; `_wins`,
    `_losses` and `_ties` count the questions that the run answers better, worse and as well as the reference.

    Raises InputError for answers whose ids are not those of the records.
    """
    rows = []
    for split in dict.fromkeys(pair[0] for pair in pairs):
        titles, golds = read_records.titles_and_golds(records[split])
        given = [(*who, file) for who, file in zip(answered, files, strict=True) if who[2] == split]
        means, seeds = _means(golds, given)
        article = statistics.clusters(titles)
        here = [(tuple(names[:2]), tuple(names[2:])) for place, *names in pairs if place == split]
        columns = differences(*(np.stack([means[pair[end]] for pair in here]) for end in (0, 1)), article)
        for (side, other), found in zip(here, columns, strict=True):
            counts = (len(golds), seeds[side], seeds[other], "questions" if article is None else "articles")
            named = zip((*KEYS, *COUNTS), (*split.split("/"), *side, *other, *counts), strict=True)
            rows.append(dict(named) | found)
    for metric in METRICS:
        for row, corrected in zip(rows, statistics.holm([row[f"{metric}_p"] for row in rows]), strict=True):
            row[f"{metric}_p_holm"] = float(corrected)
    if len(rows) * statistics.LEAST_P > NOTABLE:
        log.warning(
            f"{len(rows):,} comparisons: Holm's correction makes the least p-value that {statistics.FLIPS:,} random "
            f"assignments can give {min(1.0, len(rows) * statistics.LEAST_P):.2f}, so no difference can be below "
            f"{NOTABLE}; compare fewer, by compare_to or runs"
        )
    with written_aside(target) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _means(
    golds: squad.GoldAnswers, files: Sequence[tuple[str, str, str, str, str]]
) -> tuple[dict[tuple[str, str], np.ndarray], dict[tuple[str, str], int]]:
    """Exact match and F1 from 0 to 1, float64 (2, questions), mean over a run's files, and how many those are.

    `files` are (run, variant, split, decoding, answers.json); the result is by (run, decoding).
    """
    known: dict[tuple[str, str], tuple[float, float]] = {}  # most texts are given by several
    sums: dict[tuple[str, str], np.ndarray] = {}
    counts: dict[tuple[str, str], int] = {}
    for run, _, _, decoding, file in files:
        texts = squad.read_predictions(file)
        squad.check_ids(golds, texts, str(file))
        new = {key: texts[key] for key in golds if (key, texts[key]) not in known}
        exact, overlap = squad.raw_scores({key: golds[key] for key in new}, new)
        known.update(((key, text), (exact[key], overlap[key])) for key, text in new.items())
        found = np.array([known[key, texts[key]] for key in golds], float).T
        sums[run, decoding] = sums.get((run, decoding), 0) + found
        counts[run, decoding] = counts.get((run, decoding), 0) + 1
    return {side: total / counts[side] for side, total in sums.items()}, counts


def differences(sides: np.ndarray, references: np.ndarray, article: np.ndarray | None) -> list[dict[str, float]]:
    """The columns of METRICS (but `_p_holm`) of each pair: scores from 0 to 1, float64 (pairs, 2, questions).

    `article` is each question's article, or None where questions are drawn, and swapped, one by one. All pairs share
    the draws, so a row does not depend on which other rows there are.
    """
    gained = np.round(sides - references, PLACES)
    columns = gained.reshape(-1, gained.shape[-1]).T  # (questions, pairs x metrics)
    names = [str(number) for number in range(columns.shape[1])]
    intervals = statistics.bootstrap(Ratios(names, columns, np.ones_like(columns)), article, grouped=False)
    ends = np.array(list(intervals.values())).reshape(len(sides), len(METRICS), 2)
    p_values = statistics.randomisation_test(columns, article).reshape(len(sides), len(METRICS))
    parts = {
        "": 100 * sides.mean(axis=2),
        "_reference": 100 * references.mean(axis=2),
        "_difference": 100 * gained.mean(axis=2),
        "_low": ends[..., 0],
        "_high": ends[..., 1],
        "_p": p_values,
        "_wins": (gained > 0).sum(axis=2),
        "_losses": (gained < 0).sum(axis=2),
        "_ties": (gained == 0).sum(axis=2),
    }
    return [
        {metric + part: values[pair, n].item() for n, metric in enumerate(METRICS) for part, values in parts.items()}
        for pair in range(len(sides))
    ]


def closing_message(comparison_file: str | Path) -> str:
    """The differences in F1 of comparison.csv for the terminal; empty where there is no file or no row."""
    rows = []
    if Path(comparison_file).exists():
        with open(comparison_file, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    if not rows:
        return ""
    lines = [("run", "decoding", "against", "dataset", "split", "F1", "95 % interval", "corrected p")]
    for row in rows:
        change, low, high = (f"{float(row[f'f1_{part}']):+.2f}" for part in ("difference", "low", "high"))
        against = f"{row['reference_run']}/{row['reference_decoding']}"
        names = (row["run"], row["decoding"], against, row["dataset"], row["split"])
        lines.append((*names, change, f"{low} to {high}", f"{float(row['f1_p_holm']):.4f}"))
    head = f"Differences in F1 in percentage points ({comparison_file}, written {score.written_at(comparison_file)}):"
    return f"{head}\n\n{text_table(lines)}\n\n"
