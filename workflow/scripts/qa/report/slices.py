"""Slices: the kinds of questions with weak answers, the costliest first."""

from typing import Any

import pandas as pd

from qa.report import drawing, page
from qa.report.figures import SOFT, Figures
from qa.report.results import Answers, Results, read_table

MOST_DRAWN = 12  # slices in a figure
MOST_ROWS = 40  # in a table
MOST_TABLES = 8  # of a split
LEAST_COST = 0.05  # questions; a lower cost would be shown as 0.0


def section(results: Results, figures: Figures) -> page.Section | None:
    """For each split, the costliest slices of the highest F1, and a table for each run and decoding."""
    if not results.answers:
        return None
    splits = [_split(results, split, figures) for split in results.splits]
    body = page.render("slices.html", splits=splits, most_rows=MOST_ROWS)
    return page.Section("slices", "Slices", body)


def costs(answers: Answers) -> pd.DataFrame:
    """The slices of a set of answers with their `cost`, the costliest first.

    The cost of a slice is its count x (F1 of all questions - F1 of the slice) / 100. Its unit is questions: the F1
    that the slice loses against as many average questions. A slice that is better than average has a negative cost.
    """
    table = read_table(answers.folder / "slices.csv")
    table["cost"] = table["count"] * (answers.metrics()["f1"] - table["f1"]) / 100.0
    return table.sort_values("cost", ascending=False, kind="stable", ignore_index=True)


def _split(results: Results, split: str, figures: Figures) -> dict[str, Any]:
    ordered = sorted(results.one_of_each(split), key=lambda answers: -answers.metrics()["f1"])
    tables = [
        {"name": answers.name, "f1": answers.metrics()["f1"], "rows": table[:MOST_ROWS].to_dict("records"),
         "folder": answers.folder.as_posix(), "omitted": max(0, len(table) - MOST_ROWS)}
        for answers in ordered[:MOST_TABLES]
        for table in [costs(answers)]
    ]  # fmt: skip
    figure = _figure(ordered[0], split, figures)
    return {"name": split, "figure": figure, "tables": tables, "omitted": len(ordered[MOST_TABLES:])}


def _figure(answers: Answers, split: str, figures: Figures) -> Any:
    """A figure of the costliest slices; None if no slice has a cost."""
    table, mean = costs(answers), answers.metrics()["f1"]
    drawn = table.loc[table["cost"] >= LEAST_COST, ["kind", "slice", "count", "f1", "f1_low", "f1_high", "cost"]]
    drawn = drawn[:MOST_DRAWN]
    if not len(drawn):
        return None
    first = drawn.iloc[0]
    return figures.add(
        f"slices/{split}",
        f"F1 of the costliest slices of {answers.name}, with 95 % intervals (none for fewer than 20 questions). The "
        f"dashed line is the F1 of all questions, {mean:.2f} %.",
        f"On {split}, the costliest slice of {answers.name} is {first['kind']}: {first['slice']}. Its F1 is "
        f"{first['f1']:.1f} %, its cost {first['cost']:.1f} questions.",
        drawn.assign(f1_of_all=mean),
        _draw,
        size=drawing.size_of_rows(len(drawn)),
    )


def _draw(axes: Any, data: pd.DataFrame) -> None:
    axes.axvline(data["f1_of_all"].iloc[0], color=SOFT, linewidth=1.4, linestyle=(0, (4, 2)))
    names = data["kind"] + ": " + data["slice"]
    for place, row in zip(
        drawing.rows(axes, names, [page.number(-cost, 1) for cost in data["cost"]]), data.itertuples(), strict=True
    ):
        drawing.interval(axes, place, row.f1, row.f1_low, row.f1_high)
    axes.set_xlim(max(-2.0, data[["f1", "f1_low"]].min(axis=None) - 3), 101)
    axes.set_xlabel("F1 (%); on the right, the cost in questions")
