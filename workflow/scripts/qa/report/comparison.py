"""Comparisons on the same questions: differences between runs or decodings, wins, and settings that differ."""

from typing import Any

import pandas as pd

from qa.config.schema import Configuration
from qa.evaluation import compare
from qa.report import drawing, page
from qa.report.figures import SOFT, Figures
from qa.report.results import Results

# settings of a run that cannot explain a difference in scores
NOT_SCIENCE = {"seeds", "validate_on", "evaluate_on", "decodings", "checkpoints", "report_to", "publish"}
MOST_ROWS = 40  # in a figure; the table shows all


def section(results: Results, figures: Figures) -> page.Section | None:
    """The paired differences on each split; None without comparisons."""
    table = results.comparison()
    if table.empty:
        return None
    warnings = compare.warnings(table.to_dict("records"))
    table["split"] = table["dataset"] + "/" + table["split"]
    splits = [
        _split(results, split, rows.reset_index(drop=True), number, figures)
        for number, (split, rows) in enumerate(table.groupby("split", sort=False))
    ]
    return page.Section("comparison", "Comparisons", page.render("comparison.html", splits=splits, warnings=warnings))


def _split(results: Results, split: str, rows: pd.DataFrame, number: int, figures: Figures) -> dict[str, Any]:
    rows["side"] = rows["run"] + " / " + rows["decoding"]
    rows["reference"] = rows["reference_run"] + " / " + rows["reference_decoding"]
    references = rows["reference"].unique()
    named = rows["run"] if len({*rows["decoding"], *rows["reference_decoding"]}) == 1 else rows["side"]
    rows["name"] = named if len(references) == 1 else rows["side"] + " − " + rows["reference"]
    drawn = rows.head(MOST_ROWS)
    against = references[0] if len(references) == 1 else "its reference"
    figure = figures.add(
        f"differences-{number + 1}",
        f"Difference in F1 to {against} on {split}, with its 95 % interval. Above zero, the run is better.",
        f"Paired differences in F1 of {len(drawn)} runs and decodings.",
        drawn[["name", "f1_difference", "f1_low", "f1_high", "f1_p_holm"]],
        _draw_differences,
        size=drawing.size_of_rows(len(drawn)),
    )
    records = rows.to_dict("records")
    for record in records:
        record["differs"] = differing(results.config, record)
    return {"name": split, "rows": records, "figure": figure, "omitted": max(0, len(rows) - MOST_ROWS)}


def _draw_differences(axes: Any, data: pd.DataFrame) -> None:
    axes.axvline(0, color=SOFT, linewidth=1)
    labels = [page.signed(difference, 1) for difference in data["f1_difference"]]
    for place, row in zip(drawing.rows(axes, data["name"], labels), data.itertuples(), strict=True):
        hollow = {"markerfacecolor": "none"} if row.f1_low <= 0 <= row.f1_high else {}
        drawing.interval(axes, place, row.f1_difference, row.f1_low, row.f1_high, **hollow)
    axes.set_xlabel("difference in F1 (percentage points)")


def differing(config: Configuration, row: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The settings in which a comparison's two sides differ: key path, value, value of the reference.

    For an ensemble, only its own settings are compared, not those of its members.
    """
    sides = []
    for prefix in ("", "reference_"):
        settings = config.all_runs[row[f"{prefix}run"]].model_dump(exclude=NOT_SCIENCE)
        decoding = config.decodings[row[f"{prefix}decoding"]].model_dump()
        sides.append(pd.json_normalize({**settings, "decoding": decoding}).iloc[0].to_dict())
    pairs = [(key, *(side.get(key, "–") for side in sides)) for key in dict.fromkeys([*sides[0], *sides[1]])]
    return [pair for pair in pairs if pair[1] != pair[2]]
