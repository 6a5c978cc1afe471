"""How the report's figures look alike: lines that differ in more than colour, marks, legends, long data thinned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qa.report.figures import INK, SERIES, SOFT, shortened

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 400  # of a line as it is drawn
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (7, 1.5, 1.2, 1.5)))
_MARKERS = "osD^vPX*"
_MARKS = 6  # markers a line


def line_style(number: int, points: int = 0, marked: bool = True) -> dict[str, Any]:
    """Colour, dashes and marker of the series of a number, for Axes.plot; of a long line few points are marked."""
    style: dict[str, Any] = {"color": SERIES[number % len(SERIES)], "linestyle": _DASHES[number % len(_DASHES)]}
    if marked:
        every = max(1, points // _MARKS)
        style |= {"marker": _MARKERS[number % len(_MARKERS)], "markersize": 6}
        style["markevery"] = (min(number * every // 4, max(points - 1, 0)), every)
    return style


def vertical(axes: Any, place: float, label: str, number: int) -> None:
    """A vertical line, as a mark of the series of a number."""
    dashes = _DASHES[1:][number % (len(_DASHES) - 1)]
    axes.axvline(place, color=INK if number == 0 else SOFT, linewidth=1.6, linestyle=dashes, label=shortened(label, 36))


def legend(axes: Any, columns: int = 1) -> None:
    """A legend below the axes, where there is anything to tell apart."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def steps(axes: Any) -> None:
    """The horizontal axis as steps of the optimizer."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("optimizer step")


def thinned(data: "pd.DataFrame", column: str, most: int = MOST_POINTS) -> "pd.DataFrame":
    """At most so many rows, in their order: the first, the last, and each stretch's least and greatest of a column.

    So no peak is lost. Fewer rows are returned as they are.
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
    """Names with commas and `and`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
