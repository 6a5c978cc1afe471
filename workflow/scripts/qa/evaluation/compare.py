"""Comparison: the paired difference between two runs, or two decodings, on the same questions.

A question's score is its mean over a run's variants (seeds). There are two intervals and two p-values. The first are
over questions, for these very trainings: they tell what other questions of the kind might give. The second are over
questions and seeds: they tell what other seeds might give too.
"""

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qa.common import checksums
from qa.common.errors import InputError, some
from qa.common.files import write_csv
from qa.common.text import text_table
from qa.evaluation import question_scores, summarize
from qa.metrics import statistics
from qa.metrics.seeds import OverSeeds, over_seeds
from qa.metrics.statistics import Ratios

METRICS = ("exact", "f1")
KEYS = ("dataset", "split", "run", "decoding", "reference_run", "reference_decoding")
COUNTS = ("questions", "seeds", "reference_seeds", "resampled", "units", "least_p_holm")
OF_METRIC = ("", "_reference", "_difference", "_low", "_high", "_p", "_p_holm", "_wins", "_losses", "_ties")
OVER_SEEDS = ("_seeds_low", "_seeds_high", "_seeds_p", "_seeds_p_holm")
COLUMNS = (*KEYS, *COUNTS, *(metric + part for metric in METRICS for part in (*OF_METRIC, *OVER_SEEDS)))
P_VALUES = [metric + part for metric in METRICS for part in ("_p", "_seeds_p")]
NOTABLE = 0.05  # a smaller corrected p-value is commonly called significant
PLACES = 12  # decimals of a difference: rounding may separate equal means over seeds

log = logging.getLogger(__name__)

Pair = tuple[str, str, str, str, str]  # dataset/split, run, decoding, reference run, its decoding
Answered = tuple[str, str, str, str]  # run, variant, dataset/split, decoding
Side = tuple[str, str]  # run, decoding


def compare(
    pairs: Sequence[Pair], answered: Sequence[Answered], files: Sequence[str], target: str | Path
) -> list[dict[str, Any]]:
    """Write comparison.csv, a row (COLUMNS) a pair, and return its rows.

    `answered` says whose answers each question_scores.parquet in `files` scores. Scores are means in percent.
    Differences (run minus reference) and their 95 % intervals are percentage points. `_p` is from a paired
    randomisation test, `_p_holm` the same corrected for the number of rows, each metric by itself. `_wins`, `_losses`
    and `_ties` count the questions that the run answers better, worse and as well as the reference. `least_p_holm` is
    the least `_p_holm` that any answers could have had, with `units` questions or articles (`resampled` says which).
    OVER_SEEDS are interval, p-value and corrected p-value over questions and seeds (see seeds.over_seeds), None if a
    side has one seed. Two decodings of a run have the same seeds, so there the differences of each seed count.

    Raises InputError for files of one split that score different questions.
    """
    rows = []
    for split in dict.fromkeys(pair[0] for pair in pairs):
        sources = zip(answered, files, strict=True)
        titles, means, by_seed = _means([((run, by), file) for (run, _, place, by), file in sources if place == split])
        article = statistics.clusters(titles)
        here = [((run, decoding), (reference, its)) for place, run, decoding, reference, its in pairs if place == split]
        columns = differences(*(np.stack([means[pair[end]] for pair in here]) for end in (0, 1)), article)
        for (side, reference), found in zip(here, columns, strict=True):
            drawn = ("questions", len(titles)) if article is None else ("articles", len(np.unique(article)))
            trained = [by_seed[end] for end in (side, reference)]
            counts = (len(titles), *map(len, trained), *drawn, statistics.least_p(drawn[1]))
            named = zip((*KEYS, *COUNTS), (*split.split("/"), *side, *reference, *counts), strict=True)
            sets = [trained[0] - trained[1]] if side[0] == reference[0] else trained
            gained = np.round(means[side] - means[reference], PLACES).T
            rows.append(dict(named) | found | _over_seeds(over_seeds(gained, article, sets)))
    for corrected, plain in (("least_p_holm", "least_p_holm"), *((f"{p}_holm", p) for p in P_VALUES)):
        known = [row for row in rows if row[plain] is not None]
        for row, p in zip(known, statistics.holm([row[plain] for row in known]), strict=True):
            row[corrected] = float(p)
    for line in warnings(rows):
        log.warning(line)
    write_csv(target, COLUMNS, rows)
    checksums.record_sources(target, files)
    return rows


def _over_seeds(found: OverSeeds | None) -> dict[str, float | None]:
    """The columns OVER_SEEDS of each metric, the corrected p-value still missing."""
    if found is None:
        return dict.fromkeys(metric + part for metric in METRICS for part in OVER_SEEDS)
    values = zip(METRICS, 100 * found.low, 100 * found.high, found.p, strict=True)
    return {
        metric + part: float(value) for metric, *row in values for part, value in zip(OVER_SEEDS, row, strict=False)
    }


def warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the rows of comparison.csv must not be read without: p-values that cannot be small, and unequal seeds."""
    return [*_out_of_reach(rows), *_unequal_seeds(rows)]


def _out_of_reach(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found: dict[tuple[int, str, float], list[str]] = {}
    for row in rows:
        if (least := float(row.get("least_p_holm", 0))) > NOTABLE:  # a file of an older version has no such column
            side = f"{row['run']}/{row['decoding']} on {row['dataset']}/{row['split']}"
            found.setdefault((int(row["units"]), row["resampled"], least), []).append(side)
    return [
        f"{some(dict.fromkeys(sides), 3)}: significance is out of reach: with {units} {resampled} and {len(rows):,} "
        f"comparison{'s' * (len(rows) > 1)}, no corrected p-value can be below {least:.2g}; "
        f"{_remedy(units, resampled, len(rows))}"
        for (units, resampled, least), sides in found.items()
    ]


def _remedy(units: int, resampled: str, rows: int) -> str:
    """What would bring a corrected p-value of NOTABLE within reach."""
    enough = next((n for n in range(units, 64) if rows * statistics.least_p(n) <= NOTABLE), None)
    fewer = int(NOTABLE / statistics.least_p(units))
    ways = [f"{enough} {resampled}"] * (enough is not None)
    ways += [f"at most {fewer:,} comparison{'s' * (fewer > 1)} (compare_to, compare)"] * (fewer > 0)
    return f"it needs {' or '.join(ways) or f'more {resampled} and fewer comparisons (compare_to, compare)'}"


def _unequal_seeds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found: dict[tuple[int, int], list[str]] = {}
    for row in rows:
        seeds, others = int(row["seeds"]), int(row["reference_seeds"])
        if seeds != others and min(seeds, others) == 1:
            reference = f"{row['reference_run']}/{row['reference_decoding']}"
            found.setdefault((seeds, others), []).append(f"{row['run']}/{row['decoding']} against {reference}")
    return [
        f"{some(dict.fromkeys(pairs), 3)}: {seeds} against {others} seeds (an ensemble counts as one); one seed may be "
        "a lucky or an unlucky one, and no p-value says so; give both at least two seeds"
        for (seeds, others), pairs in found.items()
    ]


def _means(files: Sequence[tuple[Side, str]]) -> tuple[list[str], dict[Side, np.ndarray], dict[Side, np.ndarray]]:
    """Titles of a split's questions; of each side each question's mean over variants, each variant's over questions.

    `files` are (side, question_scores.parquet), a run's variants in one order for all its decodings. Means are of exact
    match and F1 from 0 to 1, float64 (2, questions) and (variants, 2).
    """
    sums: dict[Side, np.ndarray] = {}
    by_variant: dict[Side, list[np.ndarray]] = {}
    ids: list[str] = []
    for side, file in files:
        scores = question_scores.read(file, numbers=METRICS, texts=("id", "title"))
        ids = ids or scores["id"]
        if scores["id"] != ids:
            raise InputError(f"{file}: not of the questions of {files[0][1]}; remove both and run again")
        values = np.stack([scores[metric] for metric in METRICS])
        sums[side] = sums.get(side, 0) + values
        by_variant.setdefault(side, []).append(values.mean(axis=1))
    means = {side: total / len(by_variant[side]) for side, total in sums.items()}
    return scores["title"], means, {side: np.stack(rows) for side, rows in by_variant.items()}


def differences(sides: np.ndarray, references: np.ndarray, article: np.ndarray | None) -> list[dict[str, float]]:
    """The columns of METRICS, except `_p_holm`, of each pair.

    `sides`, `references`: scores from 0 to 1, float64 (pairs, 2, questions). `article` is each question's article: the
    tests draw and swap whole articles, or single questions where it is None. All pairs share the draws, so a row does
    not depend on the other rows.
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


def outdated(comparison: str | Path, sources: Iterable[str], pairs: Iterable[Pair] | None = None) -> str:
    """A sentence on a comparison that is not up to date (see summarize.not_shown), or ""."""
    rows = None if pairs is None else {(*split.split("/"), *sides) for split, *sides in pairs}
    return summarize.not_shown(comparison, sources, KEYS, rows)


def closing_message(
    comparison_file: str | Path, sources: Iterable[str] = (), pairs: Iterable[Pair] | None = None
) -> str:
    """The differences in F1 of comparison.csv for the terminal; "" where there is no file or no row.

    They are not shown if one of the `sources`, question_scores.parquet, has changed since, or for other `pairs`.
    """
    file = Path(comparison_file)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines())) if file.exists() else []
    if not rows:
        return ""
    if message := outdated(file, sources, pairs):
        return message
    head_line = ("run", "decoding", "against", "dataset", "split", "seeds", "F1", "95 % interval", "corrected p")
    over_seeds_too = any(row.get("f1_seeds_p_holm") for row in rows)
    lines = [(*head_line, "for other seeds too") if over_seeds_too else head_line]
    for row in rows:
        change, low, high = (f"{float(row[f'f1_{part}']):+.2f}" for part in ("difference", "low", "high"))
        against = f"{row['reference_run']}/{row['reference_decoding']}"
        names = (row["run"], row["decoding"], against, row["dataset"], row["split"])
        names += (" : ".join(dict.fromkeys((row["seeds"], row["reference_seeds"]))),)
        p_values = [row["f1_p_holm"], *([row["f1_seeds_p_holm"]] if over_seeds_too else [])]
        shown = (f"{float(p):.4f}" if p else "-" for p in p_values)
        lines.append((*names, change, f"{low} to {high}", *shown))
    head = (
        f"Differences in F1 in percentage points ({comparison_file}, written {summarize.written_at(comparison_file)}):"
    )
    return f"{head}\n\n{text_table(lines)}\n\n" + "".join(f"Warning: {line}\n\n" for line in warnings(rows))
