"""Runs and decodings against each other on the same questions: differences, wins, and what was set differently."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qa.report import page
from qa.report.figures import SERIES, SOFT, Figures
from qa.report.results import Results

if TYPE_CHECKING:
    import pandas as pd

# settings of a run that are not why results differ
NOT_SCIENCE = ("seeds", "evaluate_on", "decodings", "checkpoints", "report_to", "publish")
MOST_ROWS = 40  # of a figure; the table has all


def section(results: Results, figures: Figures) -> page.Section | None:
    """Paired differences of each split; None where nothing was compared."""
    table = results.comparison()
    if table.empty:
        return None
    table["split"] = table["dataset"] + "/" + table["split"]
    splits = [
        _split(results, split, rows.reset_index(drop=True), number, figures)
        for number, (split, rows) in enumerate(table.groupby("split", sort=False))
    ]
    return page.Section("compared", "Runs compared", page.render("compared.html", splits=splits))


def _split(results: Results, split: str, rows: "pd.DataFrame", number: int, figures: Figures) -> dict[str, Any]:
    rows["side"] = rows["run"] + " / " + rows["decoding"]
    rows["reference"] = rows["reference_run"] + " / " + rows["reference_decoding"]
    references = rows["reference"].unique()
    rows["name"] = rows["side"] if len(references) == 1 else rows["side"] + " − " + rows["reference"]
    drawn = rows.head(MOST_ROWS)
    against = references[0] if len(references) == 1 else "its reference"
    figure = figures.add(
        f"differences-{number + 1}",
        f"Difference in F1 to {against} on {split}, question by question, with its 95 % interval. More is better.",
        f"Paired differences in F1 of {len(drawn)} runs and decodings.",
        drawn[["name", "f1_difference", "f1_low", "f1_high", "f1_p_holm"]],
        _draw_differences,
        size=(420, 90 + 30 * len(drawn)),
    )
    records = rows.to_dict("records")
    for record in records:
        record["differs"] = differing(results.config, record)
    return {"name": split, "rows": records, "figure": figure, "omitted": max(0, len(rows) - MOST_ROWS)}


def _draw_differences(axes: Any, data: "pd.DataFrame") -> None:
    places = list(range(len(data)))[::-1]
    axes.axvline(0, color=SOFT, linewidth=1)
    for place, row in zip(places, data.itertuples(), strict=True):
        clear = row.f1_low > 0 or row.f1_high < 0
        axes.plot([row.f1_low, row.f1_high], [place, place], color=SERIES[0], linewidth=3, solid_capstyle="round")
        axes.plot([row.f1_difference], [place], "o", color=SERIES[0], markersize=7,
                  markerfacecolor=SERIES[0] if clear else "none")  # fmt: skip
        axes.annotate(f"{row.f1_difference:+.1f}", (row.f1_difference, place), xytext=(0, 7), ha="center",
                      textcoords="offset points", color=SOFT)  # fmt: skip
    axes.set_yticks(places, data["name"])
    axes.set_ylim(-0.6, len(data) - 0.3)
    axes.set_xlabel("difference in F1 (percentage points)")
    axes.grid(axis="x")


def differing(config: dict[str, Any], row: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings in which the two sides of a comparison differ: key path, value, the reference's value.

    Of an ensemble only what it names is compared, since its variants have settings of their own.
    """
    runs = {**config["runs"], **config["ensembles"]}
    found = _differences(runs[row["run"]], runs[row["reference_run"]], NOT_SCIENCE)
    own, other = (config["decodings"][row[name]] for name in ("decoding", "reference_decoding"))
    return found + [(f"decoding.{key}", value, others) for key, value, others in _differences(own, other, ())]


def _differences(own: dict[str, Any], other: dict[str, Any], left_out: tuple[str, ...]) -> list[tuple[str, Any, Any]]:
    first, second = dict(_flat(own)), dict(_flat(other))
    keys = [key for key in {**first, **second} if key.split(".")[0] not in left_out]
    return [
        (key, first.get(key, "–"), second.get(key, "–")) for key in keys if first.get(key, "–") != second.get(key, "–")
    ]


def _flat(settings: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
