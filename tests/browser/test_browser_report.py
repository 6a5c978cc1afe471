"""The whole report in a real browser: every section, for normal results and for hostile ones."""

from contextlib import chdir

import pytest

import headless
import report_fixture
from qa.report import build

SECTIONS = ["overview", "comparison", "training", "no-answer", "slices", "questions", "stages"]
WIDER = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
CUT = """
return [...document.querySelectorAll("section > .scroll, .columns > .scroll")]
  .filter((part) => part.scrollWidth > part.clientWidth).map((part) => part.ariaLabel);
"""
OUTSIDE = """
return [...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const around = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.left < around.left - 1 || own.right > around.right + 1 || own.bottom > around.bottom + 1;
  }).map((text) => text.textContent);
});
"""
PLAIN = (
    "document.head.append(Object.assign(document.createElement('style'), {textContent: '.scroll {background: none}'}))"
)


@pytest.fixture(scope="module", params=[False, True], ids=["sound", "hostile"])
def report(_there, request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    config = report_fixture.make_results(folder, questions=44, hostile=request.param)
    with chdir(folder):
        build.build(config, "report.html", "figures")
    return folder / "report.html"


def opened(driver, report):
    driver.get("about:blank")
    driver.get(headless.address(report))
    driver.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")


def test_it_opens_with_all_sections_and_the_links_to_them(driver, report):
    opened(driver, report)
    assert [
        section.get_attribute("id") for section in driver.find_elements("css selector", "main > section")
    ] == SECTIONS
    links = [link.get_attribute("href") for link in driver.find_elements("css selector", "nav a")]
    assert [link.partition("#")[2] for link in links] == SECTIONS
    assert driver.title == "Extractive question answering"  # a hostile text would have changed it


def test_every_figure_has_a_name_for_those_who_cannot_see_it(driver, report):
    opened(driver, report)
    figures = driver.find_elements("css selector", "figure svg")
    assert len(figures) > 10
    assert all(figure.accessible_name and figure.aria_role in ("img", "image") for figure in figures)


def test_nothing_is_wider_than_a_phone(phone, report):
    opened(phone, report)
    assert not phone.execute_script(WIDER)


@pytest.mark.parametrize("width", [1280, 1440, 1600])
def test_no_table_or_label_is_cut_in_a_window_of_usual_width(driver, report, width):
    screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.get(headless.address(report))
    cut = driver.execute_script(CUT)
    opened(driver, report)
    outside = driver.execute_script(OUTSIDE)
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (cut, outside) == ([], [])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(driver, report, theme):
    axe = pytest.importorskip("axe_core_python.base")
    media = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    opened(driver, report)
    driver.execute_script(PLAIN)  # axe knows no contrast with gradients, as the shadows of tables are
    driver.execute_script(axe.AXE_SCRIPT)
    found = driver.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > 30
    assert [(rule["id"], rule["nodes"][0]["target"]) for rule in found["violations"]] == []


def test_the_button_goes_through_the_colours_and_comes_back(driver, report):
    opened(driver, report)
    paper = "return getComputedStyle(document.body).backgroundColor"
    button, seen = driver.find_element("id", "theme"), []
    for _ in range(3):
        button.click()
        seen.append((button.text, driver.execute_script(paper)))
    assert [text for text, _ in seen] == ["Colours: light", "Colours: dark", "Colours: system"]
    assert seen[0][1] == "rgb(255, 255, 255)" and seen[1][1] != seen[0][1]
