"""Learning curves: scores over the number of training questions, and what twice as many would bring."""

import itertools
import math
from typing import Any

import pandas as pd

from qa.common.files import digest_of_json
from qa.config.schema import Configuration
from qa.config.sections import EarlierRun
from qa.report import drawing, page
from qa.report.comparison import NOT_SCIENCE
from qa.report.figures import Figures
from qa.report.overview import scores
from qa.report.results import Results


def section(results: Results, figures: Figures) -> page.Section | None:
    """The curve of each set of runs that differ in `training.questions` only, on each split; None without any."""
    curves: list[dict[str, Any]] = []
    for runs, split in itertools.product(curves_of(results.config), results.splits):
        if {answers.run for answers in results.of_split(split)} >= {run for run in runs if runs[run]}:
            curves.append(_curve(results, runs, split, len(curves), figures))
    if not curves:
        return None
    return page.Section("learning", "Learning curves", page.render("learning_curve.html", curves=curves))


def curves_of(config: Configuration) -> list[dict[str, int]]:
    """The training questions of runs by name, fewest first, a dict for each set of runs that differ in nothing else.

    The trained model that they all start from, if there is one, comes first, with 0 questions.
    """
    groups: dict[str, dict[str, int]] = {}
    for name, run in config.runs.items():
        if run.training.questions is not None:
            settings = run.model_dump(exclude={*NOT_SCIENCE, "training"})
            training = run.training.model_dump(exclude={"questions"})
            groups.setdefault(digest_of_json([settings, training]), {})[name] = run.training.questions
    found = []
    for runs in groups.values():
        if len({*runs.values()}) > 1:
            start = config.runs[next(iter(runs))].model
            before = {start.run: 0} if isinstance(start, EarlierRun) else {}
            found.append(before | dict(sorted(runs.items(), key=lambda item: item[1])))
    return found


def points(results: Results, runs: dict[str, int], split: str) -> pd.DataFrame:
    """The scores of the runs of a curve (see overview.scores), with the number of `questions`, fewest first."""
    table = scores([answers for answers in results.of_split(split) if answers.run in runs])
    table["questions"] = table["run"].map(runs)
    trained = table.loc[table["questions"] > 0, "decoding"].unique()
    return table[table["decoding"].isin(trained)].sort_values("questions", kind="stable").reset_index(drop=True)


def gain(rows: pd.DataFrame) -> dict[str, Any] | None:
    """The gain in F1 per doubling of the questions, between the last two points of one decoding, in percentage points.

    None with a single point. Of runs with equally many questions (which differ in their seeds), the last one counts.
    `error` is its standard error over seeds; NaN where a point has one seed. `more` are the questions that one more
    point of F1 takes at this rate, and `twice` is the F1 of twice as many questions; None without a gain.
    """
    ends = rows[rows["questions"] > 0].drop_duplicates("questions", keep="last").tail(2)
    if len(ends) < 2:
        return None
    (_, before), (_, last) = ends.iterrows()
    doublings = math.log2(last["questions"] / before["questions"])
    rate = (last["f1"] - before["f1"]) / doublings
    variance = sum(point["f1_deviation"] ** 2 / point["seeds"] for point in (before, last))
    growing = rate > 0
    return {
        "decoding": last["decoding"],
        "first": before["questions"],
        "last": last["questions"],
        "rate": rate,
        "error": math.sqrt(variance) / doublings,
        "more": last["questions"] * (2 ** min(1 / rate, 1000) - 1) if growing else None,  # a float can hold it
        "twice": min(last["f1"] + rate, 100.0) if growing else None,
    }


def _curve(results: Results, runs: dict[str, int], split: str, number: int, figures: Figures) -> dict[str, Any]:
    table = points(results, runs, split)
    name = next(run for run, questions in runs.items() if questions)
    sweep = next((sweep for sweep, combinations in results.config.sweeps.items() if name in combinations), name)
    columns = ["decoding", "questions", "seeds", "exact", "exact_deviation", "f1", "f1_deviation"]
    figure = figures.add(
        f"learning-curve-{number + 1}",
        f"F1 of {sweep} on {split} over the training questions. Bars are standard deviations over seeds.",
        f"F1 over the number of training questions, from {table['f1'].min():.1f} to {table['f1'].max():.1f}.",
        table[columns],
        _draw,
    )
    rows = table.to_dict("records")
    gains = [found for _, part in table.groupby("decoding", sort=False) if (found := gain(part))]
    return {"name": sweep, "split": split, "rows": rows, "figure": figure, "gains": gains}


def _draw(axes: Any, data: pd.DataFrame) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    for number, (name, rows) in enumerate(data.groupby("decoding", sort=False)):
        style = drawing.line_style(number)
        trained, before = rows[rows["questions"] > 0], rows[rows["questions"] == 0]
        axes.errorbar(trained["questions"], trained["f1"], trained["f1_deviation"], label=name, capsize=3, **style)
        for f1 in before["f1"]:
            axes.axhline(f1, color=style["color"], linestyle=":", linewidth=1.4, label=f"{name}, 0 questions")
    axes.set_xscale("log", base=2)
    sizes = sorted({*data["questions"]} - {0})
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("training questions")
    axes.set_ylabel("F1 (%)")
    drawing.legend(axes)
