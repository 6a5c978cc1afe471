"""Scores: the official metrics of one set of answers, and the table over all runs."""

import math
import time
from pathlib import Path
from typing import Any

from qa.common.errors import InputError
from qa.common.files import read_json, write_json, written_aside
from qa.common.text import text_table
from qa.data.read_records import titles_and_golds

NESTED = ("intervals", "interval")  # of metrics.json: one variant's, and no mean over variants is the mean's
KEYS = ["run", "dataset", "split", "decoding"]
HEADLINE = {"exact_mean": "EM", "f1_mean": "F1", "HasAns_f1_mean": "answerable F1", "NoAns_f1_mean": "unanswerable F1"}


def score(records_file: str | Path, answers: dict[str, str], target: str | Path) -> dict[str, Any]:
    """Write metrics.json of answers against a records file; `answers` are the paths `answers`, `null_scores`, `nbest`.

    First the official keys, in the official order, with the best thresholds and average precisions where the null
    scores rank anything; then `answered`, the share of questions with an answer, in percent; then `intervals` of the
    means (see statistics.intervals) and of the measures of confidence (see confidence.intervals), and `interval`, how
    they were found. The best thresholds are searched over each
    question's best text that is not the null answer. Raises InputError for missing or unknown ids.
    """
    from qa.decoding.answers import read_nbest
    from qa.metrics import confidence, squad, statistics

    titles, golds = titles_and_golds(records_file)
    texts, scores = read_json(answers["answers"]), read_json(answers["null_scores"])
    exact, overlap = squad.raw_scores(golds, texts)
    nbest = read_nbest(answers["nbest"])
    found: dict[str, Any] = squad.official_metrics(
        golds,
        texts,
        null_scores=scores,
        null_threshold=math.inf,  # the answers are thresholded already
        best_texts=nbest.best,
        average_precision=True,
        raw=(exact, overlap),
    )
    found["answered"] = 100.0 * sum(map(bool, texts.values())) / len(texts)
    measured, spread = _confidence(nbest, texts, exact, statistics.clusters(titles))
    found |= measured
    found |= statistics.intervals(statistics.mean_metrics(golds, exact, overlap, texts), titles)
    found["intervals"] |= spread
    found["interval"] |= {"resamples_of_confidence": confidence.RESAMPLES}
    write_json(target, found)
    return found


def _confidence(
    nbest: Any, texts: dict[str, str], exact: dict[str, float], article: Any
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """How far answers' probabilities can be believed, in percent, as they are and uncalibrated (temperature 1).

    The probability of what was answered, silence included, against whether it is an exact match; and the intervals.
    """
    import numpy as np

    from qa.decoding.probabilities import certainty
    from qa.metrics import confidence

    correct = np.array([exact[key] for key in nbest.best], float)
    answered = np.array([bool(texts[key]) for key in nbest.best])
    found, spread = {}, {}
    for which, sure in certainty(nbest, answered).items():
        suffix = "" if which == "calibrated" else f"_{which}"
        measures = {
            "ece": confidence.expected_calibration_error(sure, correct),
            "brier": confidence.brier(sure, correct),
            "aurc": confidence.risk_coverage(sure, correct).area,
        }
        found |= {f"{name}{suffix}": 100.0 * value for name, value in measures.items()}
        ends = confidence.intervals(sure, correct, article)
        spread |= {f"{name}{suffix}": [100.0 * end for end in ends[name]] for name in measures}
    return found, spread


def summarize(
    scored: list[tuple[str, str, str, str]],
    files: list[str],
    target: str | Path,
    swept: dict[str, dict[str, str]] | None = None,
    calibrations: dict[tuple[str, str, str], str] | None = None,
) -> Any:
    """Write summary.csv: a row a run, dataset, split and decoding, with mean and deviation of each metric over seeds.

    `scored` are (run, variant, dataset/split, decoding), one for each metrics.json in `files`. The deviation is the
    sample's (n - 1), empty for a single seed. `swept` are the values of the runs of sweeps, by setting: a column each,
    as text, empty in the rows of other runs. `calibrations` are calibration files by (run, variant, decoding): EM, F1
    on the questions held out, as `calibration_exact` and `calibration_f1`, by which settings can be chosen.
    """
    import pandas as pd

    swept = swept or {}
    rows = []
    for (run, variant, split, decoding), file in zip(scored, files, strict=True):
        row = {
            **dict(zip(KEYS, (run, *split.split("/"), decoding), strict=True)),
            "variant": variant,
            **read_json(file),
        }
        if found := (calibrations or {}).get((run, variant, decoding)):
            known = read_json(found)
            row |= {f"calibration_{metric}": known[metric] for metric in ("exact", "f1")}
        rows.append(row)
    frame = pd.DataFrame(rows)
    metrics = [name for name in frame.columns if name not in (*KEYS, "variant", *NESTED)]
    groups = frame.groupby(KEYS, sort=False)
    columns = {"seeds": groups["variant"].count()}
    for name in metrics:
        columns[f"{name}_mean"], columns[f"{name}_std"] = groups[name].mean(), groups[name].std()
    table = pd.DataFrame(columns).reset_index()
    settings = dict.fromkeys(setting for values in swept.values() for setting in values)
    for place, setting in enumerate(settings, len(KEYS)):
        table.insert(place, setting, [swept.get(run, {}).get(setting, "") for run in table["run"]])
    with written_aside(target) as aside:
        table.to_csv(aside, index=False)
    return table


def as_text(summary_file: str | Path) -> str:
    """The headline scores of summary.csv as a table for the terminal, in percent, with the deviation over seeds."""
    import csv

    with open(summary_file, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        raise InputError(f"{summary_file}: no rows")
    lines = [[*KEYS, "seeds", *HEADLINE.values()]]
    for row in rows:
        values = [_with_deviation(row[name], row[name.replace("_mean", "_std")]) for name in HEADLINE]
        lines.append([*(row[key] for key in KEYS), row["seeds"], *values])
    return text_table(lines)


def closing_message(summary_file: str | Path, comparison: str = "") -> str:
    """What the workflow says at its end: the table of scores, if there is one, `comparison`, and where things are."""
    summary = Path(summary_file)
    report = summary.with_name("report.html")
    if not summary.exists():
        return ""
    return (
        f"\nScores in percent ({summary}, written {written_at(summary)}):\n\n{as_text(summary)}\n\n{comparison}"
        "Models:  results/{run}/{variant}/model\n"
        "Answers: results/{run}/{variant}/{dataset}/{split}/{decoding}/answers.json\n"
        "Scores:  results/{run}/{variant}/{dataset}/{split}/{decoding}/metrics.json\n"
    ) + (f"Report:  {report}\n" if report.exists() else "")


def written_at(path: str | Path) -> str:
    """When a file was written, to the minute, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(Path(path).stat().st_mtime))


def _with_deviation(mean: str, deviation: str) -> str:
    if not mean:
        return "-"
    return f"{float(mean):.2f}" + (f" ± {float(deviation):.2f}" if deviation else "")
