"""The report's figures: what is saved, what is put into the page, names, colours that all can tell apart."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from qa.report import page
from qa.report.drawing import line_style, thinned
from qa.report.figures import (
    COLOURS,
    SERIES,
    SIZE,
    Figures,
    PdfFigures,
    file_name,
    inlined,
    shortened,
    stylesheet_colours,
)

DATA = pd.DataFrame({"step": range(40), "loss": np.linspace(4, 1, 40) ** 2})
HOSTILE = "<script>alert(1)</script> & \"$x^2$\" 'q' \x00\x0b ]]>"
# Machado, Oliveira and Fernandes 2009: linear RGB as people without red or green cones see it
DICHROMACY = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def draw(axes, data):
    axes.plot(data["step"], data["loss"], label=HOSTILE, **line_style(0, len(data)))
    axes.fill_between(data["step"], data["loss"], hatch="//", facecolor=SERIES[1], edgecolor=SERIES[2], alpha=0.3)
    axes.set_title(HOSTILE)
    axes.set_xlabel("step")
    axes.legend()


def figure_in(folder, name="loss", data=DATA, caption="Loss.", **options):
    folder.mkdir(exist_ok=True)
    return Figures(folder).add(name, caption, "It falls.", data, draw, **options)


def svg_of(markup):
    return ET.fromstring(re.search(r"<svg.*</svg>", markup, re.S)[0])


def linear(colour):
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return linear(colour) @ [0.2126, 0.7152, 0.0722]


def lab(rgb):
    xyz = np.array(XYZ) @ rgb / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(first, second, seen_by):
    matrix = np.array(DICHROMACY[seen_by])
    return np.linalg.norm(np.subtract(*(lab((matrix @ linear(colour)).clip(0, 1)) for colour in (first, second))))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_colours_of_series_text_and_axes_stand_out_from_what_is_behind(theme):
    colours = stylesheet_colours()[theme]
    for name, least in {**{f"series-{n}": 3.0 for n in range(1, 9)}, "ink": 7.0, "soft": 4.5}.items():
        for behind in ("paper", "raised"):
            dark, bright = sorted(map(luminance, (colours[name], colours[behind])))
            assert (bright + 0.05) / (dark + 0.05) >= least, f"{name} on {behind}"


@pytest.mark.parametrize("seen_by", DICHROMACY)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colour_blind_people_can_tell_the_series_apart(theme, seen_by):
    series = [stylesheet_colours()[theme][f"series-{number}"] for number in range(1, 9)]
    for first, second in combinations(range(8), 2):
        least = 24 if second < 4 else 14  # 2.3 is the least that is seen at all
        assert distance(series[first], series[second], seen_by) > least, f"series {first + 1} and {second + 1}"


def test_series_differ_in_more_than_colour():
    looks = {(str(style["linestyle"]), style["marker"]) for style in map(line_style, range(8))}
    assert len(looks) == 8


def test_the_two_ways_to_a_dark_page_have_the_same_colours():
    light, dark, chosen = stylesheet_colours()
    assert dark == chosen and light.keys() == dark.keys()
    drawn = [COLOURS[name] for name in ("ink", "soft", "line", "paper")]
    assert len({*drawn, *SERIES}) == 12, "a colour that two names share would become one of them"


def test_the_same_data_give_the_same_bytes_whatever_settings_the_user_has(tmp_path):
    import matplotlib

    before = figure_in(tmp_path / "a")
    with matplotlib.rc_context({"font.size": 33, "lines.linewidth": 9, "text.parse_math": True}):
        assert figure_in(tmp_path / "b") == before
        assert matplotlib.rcParams["font.size"] == 33
    for ending in ("svg", "png", "csv"):
        assert (tmp_path / "a" / f"loss.{ending}").read_bytes() == (tmp_path / "b" / f"loss.{ending}").read_bytes()


def test_the_data_are_saved_as_drawn_and_the_picture_in_twice_its_size(tmp_path):
    figure_in(tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "loss.csv"), DATA)
    width, height = (int.from_bytes((tmp_path / "loss.png").read_bytes()[start : start + 4]) for start in (16, 20))
    assert (width, height) == (2 * SIZE[0], 2 * SIZE[1])
    alone = (tmp_path / "loss.svg").read_text()
    assert "var(--" not in alone and COLOURS["paper"] in alone and "DejaVu" in alone and "<text" in alone


def test_a_figure_for_a_paper_has_its_fonts_embedded_as_publishers_ask(tmp_path):
    PdfFigures(tmp_path).add("loss", HOSTILE, "It falls.", DATA, draw)
    pdf = (tmp_path / "loss.pdf").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["loss.pdf"]
    assert b"/FontFile2" in pdf and b"/CIDFontType2" in pdf and b"/Type3" not in pdf


def test_a_figure_in_the_page_has_the_pages_colours_and_no_styles_of_its_own(tmp_path):
    svg = svg_of(figure_in(tmp_path))
    whole = ET.tostring(svg, encoding="unicode")
    assert not re.search(r"[:\"' ]#[0-9a-f]{6}\b", whole) and "font-family" not in whole and "var(--paper)" not in whole
    assert {"var(--ink)", "var(--soft)", "var(--line)", "var(--series-1)"} <= set(re.findall(r"var\([\w-]+\)", whole))
    assert not list(svg.iter("style")) and not list(svg.iter("metadata"))


def test_text_in_a_figure_can_be_read_on_a_phone(tmp_path):
    svg = svg_of(figure_in(tmp_path))
    sizes = [float(re.search(r"font-size: ([\d.]+)px", text.get("style"))[1]) for text in svg.iter("text")]
    width = float(svg.get("viewBox").split()[2])
    assert len(sizes) > 8 and min(sizes) * 336 / width >= 11


def test_ids_of_two_figures_differ_and_all_that_is_named_is_there(tmp_path):
    figures = Figures(tmp_path)
    parts = [svg_of(figures.add(name, "Loss.", "It falls.", DATA, draw)) for name in ("one", "two")]
    ids = [element.get("id") for part in parts for element in part.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 20
    whole = "".join(ET.tostring(part, encoding="unicode") for part in parts)
    named = re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", whole)
    assert len(named) > 10 and {url or link for url, link in named} <= set(ids)


def test_a_figure_says_what_it_shows_to_those_who_do_not_see_it(tmp_path):
    svg = svg_of(figure_in(tmp_path, caption="Loss of <a>."))
    assert svg.get("role") == "img"
    texts = {element.get("id"): element.text for element in svg if element.tag in ("title", "desc")}
    assert [texts[name] for name in svg.get("aria-labelledby").split()] == ["Loss of <a>.", "It falls."]


def test_hostile_labels_stand_there_as_they_are(tmp_path):
    markup = figure_in(tmp_path, caption=HOSTILE)
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\x0b", "\ufffd")
    assert "<script" not in markup and not list(svg_of(markup).iter("script"))
    assert [text.text for text in svg_of(markup).iter("text")].count(shown) == 2
    ET.fromstring((tmp_path / "loss.svg").read_bytes())


@pytest.mark.parametrize("name", ["../../x", "/etc/x", ".x", "a b", "A", "é", "x" * 300, "a+b", "", "..", "<script>"])
def test_files_of_odd_names_stay_in_the_folder_and_collide_with_none(name, tmp_path):
    figure_in(tmp_path / "figures", name)
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert [path.rpartition(".")[2] for path in files] == ["csv", "png", "svg"]
    assert all(re.fullmatch(r"[a-z0-9_+-][a-z0-9._+-]{0,99}\.\w{3}", path) for path in files)
    assert file_name(name) != file_name(name + "y") and len({file_name(n) for n in (name, name.upper(), "a")}) >= 2


def test_plain_names_are_kept_and_slashes_shown():
    assert file_name("training/run-1/loss") == "training+run-1+loss"
    assert file_name("a/b") != file_name("a+b") != file_name("a-b")
    assert file_name("x" * 300 + "1") != file_name("x" * 300 + "2")


def test_a_name_cannot_be_used_twice(tmp_path):
    figures = Figures(tmp_path)
    figures.add("loss", "Loss.", "It falls.", DATA, draw)
    with pytest.raises(ValueError, match="loss"):
        figures.add("loss", "Loss.", "It falls.", DATA, draw)


def test_few_rows_are_a_table_and_many_a_file_or_a_table_of_their_own(tmp_path):
    few = figure_in(
        tmp_path, "few", pd.DataFrame({"step": [1, 2], "loss": [-1234.5, float("nan")], "a_b": ["<i>", ""]})
    )
    assert "<td>&lt;i&gt;</td>" in few and '<th scope="col">a b</th>' in few and few.count("<tr>") == 3
    assert '<td class="n">−1,234.5</td>' in few and '<td class="n">–</td>' in few
    many = figure_in(tmp_path, "many")
    assert "<table>" not in many and "<code>many.csv</code> (40 rows" in many
    summary = figure_in(tmp_path, "summary", table=pd.DataFrame({"least": [1.0]}))
    assert '<th scope="col">least</th>' in summary and "<code>summary.csv</code> (40 rows" in summary


def test_long_labels_keep_their_beginning_and_their_end_on_one_line():
    assert shortened("short\nname") == "short name"
    label = shortened("sweep.learning_rate-0.00015.epochs-3.batch_size-16", 24)
    assert len(label) == 24 and label.startswith("sweep.learn") and label.endswith("ch_size-16")


def test_a_thinned_line_keeps_its_ends_and_its_peaks():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"step": range(9_000), "loss": rng.normal(size=9_000)})
    data.loc[[4_321, 7_000], "loss"] = [50.0, -60.0]
    kept = thinned(data, "loss", most=300)
    assert len(kept) <= 300 and kept["step"].is_monotonic_increasing and {0, 4_321, 7_000, 8_999} <= set(kept["step"])
    pd.testing.assert_frame_equal(kept, data.loc[kept.index])
    pd.testing.assert_frame_equal(thinned(DATA, "loss", most=40), DATA)


def test_an_svg_without_anything_to_name_is_inlined_too():
    figure = Figure(figsize=(2, 1))
    assert figure.axes == []
    small = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path style="fill: #000000" d="M 0.12345 1"/></svg>'
    )
    svg = ET.fromstring(inlined(small, "f-x", "T", "D"))
    assert svg.find("path").attrib == {"style": "fill: #000000", "d": "M 0.12 1"}


def test_figures_are_drawn_without_pyplot_and_imported_without_matplotlib(tmp_path):
    code = (
        "import sys; from qa.report.figures import Figures; assert not {'matplotlib', 'pandas'} & set(sys.modules)\n"
        "import pandas as pd\n"
        "Figures(sys.argv[1]).add('a', 'b', 'c', pd.DataFrame({'x': [1]}), lambda axes, data: None)\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {"PYTHONPATH": str(page.TEMPLATES.parents[2]), "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
