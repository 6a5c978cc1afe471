"""Fixtures of the download tests."""

import huggingface_hub
import pytest

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
        yield stand_in
        huggingface_hub.close_session()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "tiny"
