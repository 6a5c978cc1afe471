"""What the report's figures share: line styles, intervals, marks, legends, and how long data are thinned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qa.report.figures import INK, SERIES, SOFT, shortened

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 400  # drawn of one line
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (7, 1.5, 1.2, 1.5)))
_MARKERS = "osD^vPX*"
_MARKS = 6  # markers on one line


def line_style(number: int, points: int = 0, marked: bool = True) -> dict[str, Any]:
    """Colour, dashes and marker of a series by its number, for Axes.plot. Few points of a long line are marked."""
    style: dict[str, Any] = {"color": SERIES[number % len(SERIES)], "linestyle": _DASHES[number % len(_DASHES)]}
    if marked:
        spacing = max(1, points // _MARKS)
        style |= {"marker": _MARKERS[number % len(_MARKERS)], "markersize": 6}
        style["markevery"] = (min(number * spacing // 4, max(points - 1, 0)), spacing)
    return style


def interval(axes: Any, row: int, value: float, low: float, high: float, label: str = "", hollow: bool = False) -> None:
    """A value with its interval on a row of the vertical axis. Without an interval, `low` and `high` are NaN."""
    if low == low:
        axes.plot([low, high], [row, row], color=SERIES[0], linewidth=3, solid_capstyle="round")
    fill = "none" if hollow else SERIES[0]
    axes.plot([value], [row], "o", color=SERIES[0], markersize=7, markerfacecolor=fill)
    if label:
        above(axes, row, value, label)


def above(axes: Any, row: int, value: float, label: str) -> None:
    """A label above the mark of a value."""
    axes.annotate(label, (value, row), xytext=(0, 7), textcoords="offset points", ha="center", color=SOFT)


def rows(axes: Any, names: Sequence[str]) -> list[int]:
    """Name the rows of the vertical axis from top to bottom; return their places."""
    places = list(range(len(names)))[::-1]
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.3)
    axes.grid(axis="x")
    return places


def vertical_line(axes: Any, place: float, label: str, number: int) -> None:
    """A vertical line that marks a place, with the dashes of a series by its number."""
    dashes = _DASHES[1:][number % (len(_DASHES) - 1)]
    axes.axvline(place, color=INK if number == 0 else SOFT, linewidth=1.6, linestyle=dashes, label=shortened(label, 36))


def legend(axes: Any, columns: int = 1) -> None:
    """A legend below the axes, if any series has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def steps(axes: Any) -> None:
    """Format the horizontal axis as optimizer steps."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("optimizer step")


def thinned(data: "pd.DataFrame", column: str, most: int = MOST_POINTS) -> "pd.DataFrame":
    """At most `most` rows in their order: the first, the last, and the extremes of a column in each stretch of rows.

    So no peak is lost. Data with fewer rows are returned unchanged.
    """
    import numpy as np

    if len(data) <= most:
        return data
    values = data[column].to_numpy(float)
    kept = {0, len(data) - 1}
    for part in np.array_split(np.arange(len(data)), (most - 2) // 2):
        kept |= {int(part[np.argmin(values[part])]), int(part[np.argmax(values[part])])}
    return data.iloc[sorted(kept)]


def in_words(names: Sequence[str]) -> str:
    """Names in one line, with commas and `and`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
