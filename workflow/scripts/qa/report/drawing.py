"""What the report's figures share: line styles, intervals, marks, legends, and how long data are thinned."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from qa.report.figures import INK, SERIES, SIZE, SOFT, shortened

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


def size_of_rows(count: int) -> tuple[float, float]:
    """Width and height in px of a figure with so many rows."""
    return SIZE[0], 70 + 40 * count


def rows(axes: Any, names: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Rows of the vertical axis from top to bottom, with name and label above each; return their places."""
    places = list(range(len(names)))[::-1]
    for end, texts in ((0, [shortened(name, 44) for name in names]), (1, labels)):
        for place, text in zip(places, texts, strict=True):
            axes.annotate(text, (end, place), (0, 7), color=INK, ha=("left", "right")[end], va="bottom",
                          xycoords=axes.get_yaxis_transform(), textcoords="offset points")  # fmt: skip
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.5, len(names) - 0.15)
    axes.grid(axis="x")
    return places


def interval(axes: Any, row: int, value: float, low: float, high: float, **look: Any) -> None:
    """A value with its interval on a row. Without an interval, `low` and `high` are NaN. `look` is for Axes.plot."""
    if low == low:
        axes.plot([low, high], [row, row], color=SERIES[0], linewidth=3, solid_capstyle="round")
    axes.plot([value], [row], **{"marker": "o", "color": SERIES[0], "markersize": 7, **look})


def vertical_line(axes: Any, place: float, label: str, number: int) -> None:
    """A vertical line that marks a place, with the dashes of a series by its number."""
    dashes = _DASHES[1:][number % (len(_DASHES) - 1)]
    axes.axvline(place, color=INK if number == 0 else SOFT, linewidth=1.6, linestyle=dashes, label=shortened(label, 36))


def legend(axes: Any, columns: int = 1) -> None:
    """A legend below the axes, if any series has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def thinned(data: pd.DataFrame, column: str, most: int = MOST_POINTS) -> pd.DataFrame:
    """At most `most` rows in their order: the first, the last, and the extremes of a column in each stretch of rows.

    So no peak is lost. Data with fewer rows are returned unchanged.
    """
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
