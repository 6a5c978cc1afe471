"""Fixtures of the browser tests: pages built once, and a browser that must report no errors."""

import os
from contextlib import chdir

import pytest

import headless
import report_fixture
from qa.report import page, questions
from qa.report.results import Results


@pytest.fixture(scope="session", autouse=True)
def _there():
    if reason := headless.missing():
        if os.environ.get(headless.REQUIRED) == "1":
            pytest.fail(f"{reason}, and {headless.REQUIRED}=1")
        pytest.skip(reason)


def _page(folder, **options):
    config = report_fixture.make_results(folder, **options)
    with chdir(folder):
        section = questions.section(Results(config), None)
        page.write("report.html", "Extractive question answering", "made up", [section])
    return folder / "report.html"


@pytest.fixture(scope="session")
def plain(_there, tmp_path_factory):
    """The page of 300 made-up questions, three models and two decodings."""
    return _page(tmp_path_factory.mktemp("plain"), questions=300)


@pytest.fixture(scope="session")
def hostile(_there, tmp_path_factory):
    """The page of hostile questions."""
    return _page(tmp_path_factory.mktemp("hostile"), questions=44, hostile=True)


@pytest.fixture(scope="session")
def long_contexts(_there, tmp_path_factory):
    """The page of questions about contexts of 3,000 words."""
    return _page(tmp_path_factory.mktemp("long"), questions=6, runs={"base": [1]}, words=3000)


@pytest.fixture(scope="session")
def of_others(_there, tmp_path_factory):
    """The page of a model and of another system's answers without probabilities, half of them in words of its own."""
    folder = tmp_path_factory.mktemp("others")
    return _page(folder, questions=12, runs={"base": [1]}, decodings=("n_best",), external=("sure", "plain"))


@pytest.fixture(scope="session")
def two_splits(_there, tmp_path_factory):
    """The page of two splits with the same ids."""
    return _page(tmp_path_factory.mktemp("two"), questions=30, splits=("made/validation", "made/test"))


@pytest.fixture(scope="module")
def shared(_there):
    with headless.browser() as driver:
        yield driver


@pytest.fixture
def is_own():
    """Whether an address is the page's own: here a report, opened as a file."""
    return lambda url: url.startswith("file:") and url.partition("#")[0].endswith("/report.html")


@pytest.fixture
def driver(shared, is_own):
    """A browser 1280 pixels wide. The test fails if a page writes to the console or requests any other address."""
    yield from _watched(shared, is_own)


@pytest.fixture
def phone(_there, is_own):
    """The same browser, 360 pixels wide."""
    with headless.browser(360, 740) as driver:
        yield from _watched(driver, is_own)


def _watched(driver, is_own):
    headless.complaints(driver)
    headless.requested(driver)
    yield driver
    assert headless.complaints(driver) == []
    assert all(map(is_own, headless.requested(driver)))
