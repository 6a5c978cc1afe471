"""The overview: scores of all runs, and the time and memory of each stage."""

from typing import Any

import pandas as pd

from qa.common.text import counted
from qa.config import lineage
from qa.evaluation.compare import NOTABLE
from qa.evaluation.summarize import ABOUT_TRAINED_CONTEXTS, ALL_UNANSWERABLE, misaligned
from qa.report import drawing, page
from qa.report.figures import SOFT, Figures
from qa.report.ranking import Ranking, rankings
from qa.report.results import FOLDER, Answers, Results, read_table

# Scores on SQuAD 2.0's validation set that others have published: exact match and F1 in percent. None is measured here.
PUBLISHED_FOR = ("rajpurkar/squad_v2", "validation")
PUBLISHED = (
    ("the walkthrough, RoBERTa-base (published)", 73.70, 76.74),
    ("RoBERTa-base, same hyperparameters (model card)", 80.37, 83.74),
    ("RoBERTa-base, batch 96, 2 epochs (model card)", 79.87, 82.91),
    ("RoBERTa-base, best model card seen", 81.19, 83.95),
)
HOLLOW = " Hollow marks are scores that others have published."
PUBLISHED_LOOK = {"marker": "D", "color": SOFT, "markerfacecolor": "none"}
MOST_ROWS = 40  # in the figure; the table shows all


def subtitle(results: Results) -> str:
    """One line that counts what the page shows."""
    counts = {"run": len({a.run for a in results.answers}), "training": len(results.models)}
    counts |= {"split": len(results.splits), "answer set": len(results.answers)}
    parts = [counted(count, noun) for noun, count in counts.items()]
    limits: dict[str, int] = {}
    for name, run in results.config.all_runs.items():
        limits |= lineage.limits(results.config, name, run.evaluate_on)
    listed = ", ".join(f"{dataset}: {limit}" for dataset, limit in limits.items())
    few = f"a quick try on few questions of each split ({listed}); " if limits else ""
    return f"{few}{', '.join(parts)}; scores in percent, with 95 % bootstrap intervals"


def section(results: Results, figures: Figures) -> page.Section:
    """The scores on each split, and the time and memory of each stage."""
    ranked = rankings(results)
    body = page.render(
        "overview.html",
        splits=[_split(results, split, number, figures, ranked) for number, split in enumerate(results.splits)],
        sweeps=[_sweep(results, sweep, ranking) for sweep, ranking in ranked.items() if ranking],
        stages=stages(read_table(FOLDER / "resource_usage.csv")),
    )
    return page.Section("overview", "Overview", body)


def scores(answer_sets: list[Answers]) -> pd.DataFrame:
    """One row for each run and decoding, in percent: scores and interval bounds, each a mean over the run's variants.

    The interval shows how much the score depends on the questions. `exact_deviation` and `f1_deviation`, standard
    deviations over variants, show how much it depends on the seed; they are NaN for a single variant.
    """
    rows: list[dict[str, Any]] = []
    for answers in answer_sets:
        metrics = answers.metrics()
        rows.append({"run": answers.run, "decoding": answers.decoding})
        for metric in ("exact", "f1"):
            low, high = metrics["intervals"][metric]
            rows[-1] |= {metric: metrics[metric], f"{metric}_low": low, f"{metric}_high": high}
    measures = {name: (name, "mean") for name in list(rows[0])[2:]}
    deviations = {f"{metric}_deviation": (metric, "std") for metric in ("exact", "f1")}
    table = pd.DataFrame(rows).groupby(["run", "decoding"], sort=False, as_index=False)
    return table.agg(seeds=("f1", "size"), **measures, **deviations)


def published(results: Results, split: str) -> tuple[tuple[str, float, float], ...]:
    """Published scores to compare with those on a split; empty unless the split is SQuAD 2.0's validation set."""
    dataset, part = split.split("/")
    return PUBLISHED if (results.config.datasets[dataset].repo, part) == PUBLISHED_FOR else ()


def rivals(results: Results, split: str, run: str, decoding: str) -> list[str] | None:
    """The runs and decodings that the comparisons do not tell from one: the difference in F1 may be chance.

    The p-value over questions and seeds decides, if there is one.

    None where there are comparisons on the split, but none of that run and decoding.
    """
    rows = [row for row in results.comparison().to_dict("records") if f"{row['dataset']}/{row['split']}" == split]
    others = []
    for row in rows:
        sides = [(row["run"], row["decoding"]), (row["reference_run"], row["reference_decoding"])]
        if (run, decoding) in sides:
            over_seeds = row.get("f1_seeds_p_holm")
            p = over_seeds if page.is_number(over_seeds) else row["f1_p_holm"]
            others.append((" / ".join(sides[sides[0] == (run, decoding)]), p))
    return [name for name, p in others if p > NOTABLE] if others or not rows else None


def _sweep(results: Results, name: str, ranking: Ranking) -> dict[str, Any]:
    """A ranking, and in each of its rows the scores on the splits that all its runs answer."""
    splits = results.config.runs[ranking.rows[0]["run"]].evaluate_on
    tables = [scores(results.of_split(split)).set_index(["run", "decoding"]) for split in splits]
    rows = [
        {**row, "evaluated": [table.loc[(row["run"], row["decoding"])].to_dict() for table in tables]}
        for row in ranking.rows
    ]
    settings = [*rows[0]["values"]]
    columns = ["run", "decoding", *(f"{setting}#" for setting in settings), "calibration F1#", "first (%)#"]
    columns += [f"F1 on {split}#" for split in splits]
    return {"name": name, "ranking": ranking, "rows": rows, "splits": splits, "settings": settings, "columns": columns}


def _split(
    results: Results, split: str, number: int, figures: Figures, ranked: dict[str, Ranking | None]
) -> dict[str, Any]:
    table = scores(results.of_split(split))
    unit = results.of_split(split)[0].metrics()["interval"]["resampled"]  # articles or questions
    table["name"] = table["run"] + " / " + table["decoding"]
    answered = {*table["run"]}
    points = {
        sweep: ranking and ranking.rows[0]
        for sweep, ranking in ranked.items()
        if answered & results.config.sweeps[sweep].keys()
    }
    left = {run for sweep, point in points.items() if point for run in results.config.sweeps[sweep]}
    taken = {(point["run"], point["decoding"]) for point in points.values() if point}
    ranked = [side in taken or side[0] not in left for side in zip(table["run"], table["decoding"], strict=True)]
    highest = table.loc[ranked, "f1"].idxmax()
    reported = pd.DataFrame(published(results, split), columns=["name", "exact", "f1"])
    named = table.assign(name=table["run"]) if table["decoding"].nunique() == 1 else table
    drawn = pd.concat([named.nlargest(MOST_ROWS, "f1").sort_index(), reported], ignore_index=True)
    figure = figures.add(
        f"scores-{number + 1}",
        f"F1 on {split}. Bars are 95 % intervals over {unit}." + HOLLOW * (len(reported) > 0),
        f"F1 of {len(table)} runs and decodings on {split}; {table['name'][highest]} has the highest.",
        drawn[["name", "seeds", "exact", "exact_low", "exact_high", "f1", "f1_low", "f1_high"]],
        _draw_scores,
        size=drawing.size_of_rows(len(drawn)),
    )
    rows = [{**row, "best": index == highest} for index, row in table.to_dict("index").items()]
    return {
        "name": split,
        "unit": unit,
        "rows": rows,
        "published": reported.to_dict("records"),
        "figure": figure,
        "omitted": max(0, len(table) - MOST_ROWS),
        "questions": results.of_split(split)[0].metrics()["total"],
        "highest": rows[highest],
        "warnings": _warnings(results, split),
        "chosen": points,
        "rivals": rivals(results, split, table["run"][highest], table["decoding"][highest]),
    }


def _warnings(results: Results, split: str) -> list[str]:
    """What to know of a split: no answers at all, misaligned ones, and contexts of training, the most of any run."""
    found = [answers.metrics() for answers in results.of_split(split)]
    most = max(metrics.get("trained_contexts", 0) for metrics in found)
    lines = [] if "HasAns_total" in found[0] else [f"{split}: {ALL_UNANSWERABLE}"]
    if counts := misaligned(found[0]):
        lines.append(f"Not all questions of {split} are as in the files ({counts}).")
    return lines + ([f"{most:,} questions {ABOUT_TRAINED_CONTEXTS}."] if most else [])


def _draw_scores(axes: Any, data: pd.DataFrame) -> None:
    places = drawing.rows(axes, data["name"], [page.number(f1, 1) for f1 in data["f1"]])
    for place, row in zip(places, data.itertuples(), strict=True):
        look = {} if page.is_number(row.f1_low) else PUBLISHED_LOOK
        drawing.interval(axes, place, row.f1, row.f1_low, row.f1_high, **look)
    axes.set_xlabel("F1 (%)")


def stages(resources: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each rule: jobs, waits and times in seconds, memory in MiB, and the time and memory requested."""
    groups = resources.groupby("rule", sort=False)
    table = groups.agg(
        jobs=("attempt", lambda attempts: (attempts == 1).sum()),
        attempts=("attempt", "size"),
        wait=("wait_seconds", "max"),
        longest=("elapsed_seconds", "max"),
        total=("elapsed_seconds", "sum"),
        requested=("asked_seconds", "max"),
        memory=("peak_memory_mib", "max"),
        requested_memory=("asked_memory_mib", "max"),
        gpu_memory=("peak_gpu_memory_mib", "max"),
    )
    return table.reset_index().to_dict("records")
