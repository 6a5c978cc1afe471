"""The table of scores over all runs, and the closing message of the workflow."""

import csv
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qa.common import checksums
from qa.common.errors import InputError, some
from qa.common.files import read_json, written_aside
from qa.common.text import text_table
from qa.decoding.calibrate import FEW_QUESTIONS, few_questions

NESTED = ("intervals", "interval")  # keys of metrics.json that belong to one variant: means over variants have none
MISALIGNED = {
    "dropped_questions": "questions left out",
    "dropped_answers": "gold answers left out",
    "realigned_answers": "gold answers moved",
}
# the same for all variants: columns without mean and deviation
FACTS = ("limits", "f1_by", "trained_contexts", "calibration_questions", *MISALIGNED)
ABOUT_TRAINED_CONTEXTS = (
    "are about contexts that training questions are about too, so scores on new contexts may be lower; to measure "
    "these, divide data by article or context, not by question"
)
ALL_UNANSWERABLE = (
    "no question has an answer, so the scores only say how often the models give none; are the answers withheld, as "
    "those of a blind test set are?"
)
KEYS = ["run", "dataset", "split", "decoding"]
Scored = tuple[str, str, str, str]  # run, variant, dataset/split, decoding
HEADLINE = {"exact_mean": "EM", "f1_mean": "F1", "HasAns_f1_mean": "answerable F1", "NoAns_f1_mean": "unanswerable F1"}


def summarize(
    scored: list[Scored],
    files: list[str],
    target: str | Path,
    swept: dict[str, dict[str, str]] | None = None,
    calibrations: dict[tuple[str, str, str], str] | None = None,
) -> Any:
    """Write summary.csv: a row a run, dataset, split and decoding, with mean and deviation of each metric over seeds.

    `scored` has (run, variant, dataset/split, decoding) of each metrics.json in `files`. The deviation is the sample's
    (n - 1), empty for a single seed. `swept` has the values of each swept setting by run: such a setting is a column of
    text, empty for other runs. `calibrations` are calibration files by (run, variant, decoding): their EM and F1 on the
    held-out questions become `calibration_exact` and `calibration_f1`, by which settings can be chosen, and their
    number becomes `calibration_questions`. Limits of datasets are text in the column `limits`: `mine: 200`.
    """
    import pandas as pd

    swept, calibrations = swept or {}, calibrations or {}
    rows = []
    for (run, variant, split, decoding), file in zip(scored, files, strict=True):
        row = {
            **dict(zip(KEYS, (run, *split.split("/"), decoding), strict=True)),
            "variant": variant,
            **read_json(file),
        }
        if limits := row.get("limits"):
            row["limits"] = ", ".join(f"{dataset}: {limit}" for dataset, limit in limits.items())
        if calibration_file := calibrations.get((run, variant, decoding)):
            calibration = read_json(calibration_file)
            row |= {f"calibration_{name}": calibration[name] for name in ("exact", "f1", "questions")}
        rows.append(row)
    frame = pd.DataFrame(rows)
    metrics = [name for name in frame.columns if name not in (*KEYS, "variant", *NESTED, *FACTS)]
    groups = frame.groupby(KEYS, sort=False)
    measures = {f"{name}_{measure}": (name, measure) for name in metrics for measure in ("mean", "std")}
    facts = {name: (name, "first") for name in FACTS if name in frame}
    table = groups.agg(seeds=("variant", "count"), **facts, **measures).reset_index()
    table = table.astype({name: table[name].convert_dtypes().dtype for name in facts})
    settings = dict.fromkeys(setting for values in swept.values() for setting in values)
    for place, setting in enumerate(settings, len(KEYS)):
        table.insert(place, setting, [swept.get(run, {}).get(setting, "") for run in table["run"]])
    with written_aside(target) as aside:
        table.to_csv(aside, index=False)
    checksums.record_sources(target, [*files, *calibrations.values()])
    return table


def as_text(summary_file: str | Path) -> str:
    """The headline scores of summary.csv as a table for the terminal, in percent, with the deviation over seeds."""
    rows = _rows(summary_file)
    if not rows:
        raise InputError(f"{summary_file}: no rows")
    lines = [[*KEYS, "seeds", *HEADLINE.values()]]
    for row in rows:
        # where no question is unanswerable, or all are, the table lacks the columns of the other kind
        values = [_with_deviation(row.get(name, ""), row.get(name.replace("_mean", "_std"), "")) for name in HEADLINE]
        lines.append([*(row[key] for key in KEYS), row["seeds"], *values])
    return text_table(lines)


def warnings(summary_file: str | Path) -> list[str]:
    """What the scores of summary.csv must not be read without: blind tests, limits, trained contexts, few questions."""
    blind: dict[str, None] = {}
    tries: dict[str, dict[str, None]] = {}
    known: dict[str, dict[str, None]] = {}
    calibrated: dict[str, dict[str, None]] = {}
    changed: dict[str, str] = {}
    for row in _rows(summary_file):
        if not row.get("HasAns_total_mean"):
            blind[f"{row['dataset']}/{row['split']}"] = None
        if limits := row.get("limits"):
            tries.setdefault(limits, {})[row["run"]] = None
        if counts := misaligned(row):
            changed[f"{row['dataset']}/{row['split']}"] = f"not all questions are as in the files ({counts})"
        if trained := row.get("trained_contexts"):
            counted = (
                f"{int(trained):,} of {float(row['total_mean']):,.0f} questions of {row['dataset']}/{row['split']}"
            )
            known.setdefault(counted, {})[row["run"]] = None
        if 0 < (questions := int(row.get("calibration_questions") or 0)) < FEW_QUESTIONS:
            calibrated.setdefault(few_questions(questions), {})[f"{row['run']}/{row['decoding']}"] = None
    lines = [f"{some(blind)}: {ALL_UNANSWERABLE}"] if blind else []
    lines += [f"{split}: {counts}" for split, counts in changed.items()]
    lines += [f"{some(runs)}: a quick try on few questions of each split ({limits})" for limits, runs in tries.items()]
    lines += [f"{some(runs)}: {counted} {ABOUT_TRAINED_CONTEXTS}" for counted, runs in known.items()]
    return lines + [f"{some(sides)}: {message}" for message, sides in calibrated.items()]


def misaligned(counts: Mapping[str, Any]) -> str:
    """What became of gold answers that did not stand at their places, in words; "" where all did."""
    return ", ".join(f"{what}: {int(counts[name]):,}" for name, what in MISALIGNED.items() if counts.get(name))


def _rows(summary_file: str | Path) -> list[dict[str, str]]:
    with open(summary_file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def closing_message(
    summary_file: str | Path, comparison: str = "", sources: Iterable[str] = (), scored: Iterable[Scored] | None = None
) -> str:
    """What a run of the workflow ends with: its scores, if there are any, `comparison`, and where the files are.

    A table of which one of the `sources` has changed since, or that has other rows than `scored`, is not shown.
    """
    summary = Path(summary_file)
    report = summary.with_name("report.html")
    if not summary.exists():
        return ""
    table = outdated(summary, sources, scored) or (
        f"Scores in percent ({summary}, written {written_at(summary)}):\n\n{as_text(summary)}\n\n"
        + "".join(f"Warning: {line}\n\n" for line in warnings(summary))
    )
    return (
        f"\n{table}{comparison}"
        "Models:  results/{run}/{variant}/model\n"
        "Answers: results/{run}/{variant}/{dataset}/{split}/{decoding}/answers.json\n"
        "Scores:  results/{run}/{variant}/{dataset}/{split}/{decoding}/metrics.json\n"
    ) + (f"Report:  {report}\n" if report.exists() else "")


def outdated(summary: str | Path, sources: Iterable[str], scored: Iterable[Scored] | None = None) -> str:
    """A sentence on a summary that is not up to date (see not_shown), or ""."""
    rows = None if scored is None else {(run, *split.split("/"), decoding) for run, _, split, decoding in scored}
    return not_shown(summary, sources, KEYS, rows)


def not_shown(table: str | Path, sources: Iterable[str], keys: Sequence[str], rows: set[Any] | None) -> str:
    """A sentence on a table of which a source has changed since, or that has not these `rows` of `keys`; or ""."""
    if rows is not None and {tuple(row.get(key) for key in keys) for row in _rows(table)} != rows:
        fault = "it is of another configuration"
    elif newer := checksums.changed_sources(table, sources):
        fault = f"{some(newer, 1)} is newer"
    else:
        return ""
    return f"{table} is not shown, since {fault}. The target {table} brings it up to date.\n\n"


def written_at(path: str | Path) -> str:
    """When a file was written, to the minute, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(Path(path).stat().st_mtime))


def _with_deviation(mean: str, deviation: str) -> str:
    if not mean:
        return "-"
    return f"{float(mean):.2f}" + (f" ± {float(deviation):.2f}" if deviation else "")
