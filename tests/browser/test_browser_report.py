"""The whole report in a real browser: every section, for normal results and for hostile ones."""

from contextlib import chdir

import pytest

import headless
import report_fixture
from qa.report import build

SECTIONS = ["overview", "comparison", "training", "no-answer", "slices", "questions", "stages"]
WIDER = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"


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


def test_the_button_goes_through_the_colours_and_comes_back(driver, report):
    opened(driver, report)
    paper = "return getComputedStyle(document.body).backgroundColor"
    button, seen = driver.find_element("id", "theme"), []
    for _ in range(3):
        button.click()
        seen.append((button.text, driver.execute_script(paper)))
    assert [text for text, _ in seen] == ["Colours: light", "Colours: dark", "Colours: system"]
    assert seen[0][1] == "rgb(255, 255, 255)" and seen[1][1] != seen[0][1]
