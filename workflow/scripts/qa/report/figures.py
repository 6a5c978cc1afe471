"""Figures: drawn once, inlined into the page in its colours, and saved next to it as SVG, PNG and CSV."""

import hashlib
import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from qa.common.files import written_aside
from qa.report import page

if TYPE_CHECKING:
    import pandas as pd


def stylesheet_colours() -> list[dict[str, str]]:
    """The colours that page.css names (`ink`, `series-1`, ...): first the light theme, then the dark themes."""
    text = (page.TEMPLATES / "page.css").read_text(encoding="utf-8")
    blocks = re.findall(r"\{([^{}]*--paper:[^{}]*)\}", text)
    return [dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})\b", block)) for block in blocks]


# Figures use the colours of the light theme. No two are equal, so the page can replace each with its own variable.
COLOURS = stylesheet_colours()[0]
INK, SOFT, LINE, PAPER = (COLOURS[name] for name in ("ink", "soft", "line", "paper"))
SERIES = tuple(COLOURS[f"series-{number}"] for number in range(1, 9))
_VARIABLES = {COLOURS[name]: f"var(--{name})" for name in ("ink", "soft", "line", "paper")}
_VARIABLES |= {colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)}

SIZE = (420, 310)  # px; a phone scales it to 336 px, and text of 14 px to 11 px
RESOLUTION = 144  # dots per inch of the PNG: twice the SVG's 72
TABLE_ROWS = 12  # longer data are not shown below a figure
LONGEST_NAME = 100  # characters of a file name without its ending
LONGEST_LABEL = 24  # characters
STYLE = {
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.h_pad": 0.1,  # inches
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],  # part of Matplotlib, so the layout is the same everywhere
    "font.size": 14,  # px, of all text: "medium" is the default elsewhere
    "grid.color": LINE,
    "grid.linewidth": 1,
    "legend.borderaxespad": 0,
    "legend.borderpad": 0,
    "legend.columnspacing": 1.2,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.linewidth": 2,
    "path.simplify": False,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Matplotlib's default, Type 3
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "figure",  # the same ids in every build
    "text.color": INK,
    "text.parse_math": False,  # a name may hold dollar signs
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
}
_FONT = re.compile(r"font-family: [^;\"]*")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HEX = re.compile(r"#[0-9a-f]{6}\b")
_DECIMALS = re.compile(r"-?\d+\.\d{3,}")
_NO_TURN = re.compile(r"rotate\(-?0(\.0)? [^)]*\)")


class Figures:
    """The figures of a report in an existing folder: `{name}.svg`, `{name}.png` and `{name}.csv` for each."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.names: set[str] = set()

    def add(
        self,
        name: str,
        caption: str,
        alt: str,
        data: "pd.DataFrame",
        draw: Callable[[Any, "pd.DataFrame"], None],
        size: tuple[float, float] = SIZE,
        table: "pd.DataFrame | None" = None,
    ) -> Markup:
        """Draw a figure, save it, and return a `<figure>` for the page.

        `draw` puts only `data` on the Axes, in the colours of this module. `alt` describes the figure for people who
        cannot see it. `size` is width and height in px. `table` is shown below the figure instead of data with more
        than TABLE_ROWS rows. Raises ValueError for a name that was used before.
        """
        from matplotlib.figure import Figure

        safe = file_name(name)
        if safe in self.names:
            raise ValueError(f"two figures are named {name!r}")
        self.names.add(safe)
        with _style():
            figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72, layout="constrained")
            figure.patch.set_gid("background")
            draw(figure.subplots(), data)
            svg = self._save(safe, figure, data)
        shown = data if len(data) <= TABLE_ROWS else table
        return page.render(
            "figure.html",
            svg=inlined(svg, f"f-{safe}", caption, alt),
            caption=caption,
            file=safe,
            rows=len(data),
            columns=[] if shown is None else [str(column).replace("_", " ") for column in shown.columns],
            cells=[] if shown is None else [[_cell(value) for value in row] for row in shown.itertuples(index=False)],
        )

    def _save(self, name: str, figure: Any, data: "pd.DataFrame") -> str:
        """Write the three files; return the SVG."""
        with io.StringIO() as stream:
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
            svg = _NOT_XML.sub("\ufffd", stream.getvalue())
        figure.savefig(self.folder / f"{name}.png", dpi=RESOLUTION, metadata={"Software": None})
        standalone = _FONT.sub("font-family: system-ui, 'DejaVu Sans', sans-serif", svg)
        (self.folder / f"{name}.svg").write_text(standalone, encoding="utf-8")
        data.to_csv(self.folder / f"{name}.csv", index=False, lineterminator="\n")
        return svg


class PdfFigures(Figures):
    """The same figures for a paper: only `{name}.pdf`, with embedded fonts and no background. Their SVG is empty."""

    def _save(self, name: str, figure: Any, data: "pd.DataFrame") -> str:
        with written_aside(self.folder / f"{name}.pdf") as partial:
            figure.savefig(partial, format="pdf", facecolor="none", metadata={"CreationDate": None})
        return "<svg/>"


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's defaults with STYLE, whatever the user's matplotlibrc says. The old settings are restored."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page has more fonts than the PNG
        yield


def file_name(name: str) -> str:
    """A file name for a name: lower-case letters, digits, `.`, `_`, `-`, and `+` for `/`.

    Any other name ends in a digest, so two names never share a file, not even on a file system that ignores case.
    """
    plain = re.sub(r"[^a-z0-9._/-]+", "-", name.lower()).replace("/", "+").lstrip(".-")
    if plain and plain.replace("+", "/") == name and len(name) <= LONGEST_NAME:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{plain[: LONGEST_NAME - 11]}-{digest}".lstrip("-")


def shortened(label: str, most: int = LONGEST_LABEL) -> str:
    """A label on one line of at most `most` characters. The middle is cut, since names of sweeps differ at the end."""
    line = " ".join(label.split())
    if len(line) <= most:
        return line
    end = (most - 1) // 2
    return f"{line[: most - 1 - end]}…{line[len(line) - end :]}"


def inlined(svg: str, prefix: str, title: str, description: str) -> Markup:
    """A Matplotlib SVG as an element of the page: with the page's colours and font. Its ids begin with `prefix`."""
    root = ET.fromstring(svg)
    _remove_page_styles(root)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if "fill" in attributes:  # of a hatch; CSS variables work only inside a style
            attributes["style"] = f"fill: {attributes.pop('fill')}"
        attributes = {key: _attribute(key, value, prefix) for key, value in attributes.items()}
        element.attrib = {key: value for key, value in attributes.items() if value}
    view = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib |= {"viewBox": view, "role": "img", "aria-labelledby": f"{prefix}-title {prefix}-text"}
    root.set("style", "max-width: 30rem; margin-bottom: .4rem; stroke-linejoin: round; stroke-linecap: butt")
    for place, (tag, end, text) in enumerate((("title", "title", title), ("desc", "text", description))):
        label = ET.Element(tag, {"id": f"{prefix}-{end}"})
        label.text = _NOT_XML.sub("\ufffd", text)
        root.insert(place, label)
    return Markup(ET.tostring(root, encoding="unicode"))


def _remove_page_styles(root: ET.Element) -> None:
    """Remove metadata, the background, and styles that would apply to the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            tag = child.tag.rpartition("}")[2]
            if tag in ("metadata", "style") or child.get("id") == "background":
                parent.remove(child)


def _attribute(name: str, value: str, prefix: str) -> str:
    """An attribute as the page uses it; "" if the page does not need it."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return f"#{prefix}-{value.removeprefix('#')}"
    if name == "style":
        rules = [rule for rule in value.split("; ") if not rule.startswith("font-family")]
        value = _HEX.sub(lambda found: _VARIABLES.get(found[0], found[0]), "; ".join(rules))
    if name in ("d", "x", "y", "transform", "points"):
        value = _DECIMALS.sub(lambda found: f"{float(found[0]):.2f}", _NO_TURN.sub("", " ".join(value.split())))
    return value.replace("url(#", f"url(#{prefix}-")


def _cell(value: Any) -> tuple[str, bool]:
    """The text of a value, and whether it is a number."""
    if isinstance(value, str):
        return value, False
    if not page.is_number(value):
        return "–", True
    if isinstance(value, float) and not value.is_integer():
        return (f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}").replace("-", "−"), True
    return f"{value:,.0f}".replace("-", "−"), True
