"""A headless Chromium for the tests: found on this machine, driven by selenium, never fetched."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REQUIRED = "QA_REQUIRE_BROWSER"  # 1: where a browser is missing the tests fail instead of being skipped
LOGS = {"browser": "ALL", "performance": "ALL"}


def missing() -> str:
    """What is not there of what the tests need, in words; "" where everything is."""
    programs = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    try:
        import selenium  # noqa: F401
    except ImportError:
        programs.append("selenium")
    return f"no {', no '.join(programs)} here (Debian: chromium, chromium-driver)" if programs else ""


@contextmanager
def browser(width: int = 1280, height: int = 1000) -> Iterator[Any]:
    """Yield selenium's driver of a browser of this size; below 600 pixels it is a phone's."""
    os.environ["SE_OFFLINE"] = "true"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", f"window-size={width},{height}"):
        options.add_argument(f"--{argument}")
    if width < 600:
        metrics = {"width": width, "height": height, "pixelRatio": 2.0}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", LOGS)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def complaints(driver: Any) -> list[str]:
    """What the page has written to the console since the last call, errors and warnings of the browser included."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requested(driver: Any) -> set[str]:
    """The addresses that were asked for since the last call, but for data within the page."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {each["request"]["url"] for each in sent if not each["request"]["url"].startswith("data:")}


def address(page: Path, fragment: str = "") -> str:
    """A file's address, with a fragment as it stands in a link."""
    return page.resolve().as_uri() + fragment
