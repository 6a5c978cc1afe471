"""Fixtures that several files of tests share: a hub for downloads, results for the report."""

import time

import huggingface_hub
import pytest

from qa.report.results import Results
from report_fixture import make_results
from small_hub import COMMIT, MODEL, UNWANTED
from stand_in_hub import StandInHub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with StandInHub() as stand_in:
        stand_in.add_repo("model", "someone/tiny", COMMIT, MODEL | UNWANTED)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "10")
        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))  # the client's waits
        yield stand_in
        huggingface_hub.close_session()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "tiny"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with results of 90 questions, of run `base` with two seeds and `large` with one; its configuration."""
    folder = tmp_path_factory.mktemp("made")
    return folder, make_results(folder, questions=90)


@pytest.fixture
def results(made, monkeypatch):
    """The same as the report sees it, from within the folder."""
    folder, config = made
    monkeypatch.chdir(folder)
    return Results(config)
