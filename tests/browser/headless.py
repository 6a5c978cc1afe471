"""A headless Chromium for the tests: the one of this machine, driven by selenium, never downloaded."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REQUIRED = "QA_REQUIRE_BROWSER"  # 1: without a browser, the tests fail instead of being skipped
PATIENCE = 1800  # seconds, against a machine that is busy: the limit only ends a test that hangs
LOGS = {"browser": "ALL", "performance": "ALL"}


def missing() -> str:
    """What the tests need and this machine lacks, in words; "" if nothing is missing."""
    programs = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    try:
        import selenium  # noqa: F401
    except ImportError:
        programs.append("selenium")
    return f"no {', no '.join(programs)} here (Debian: chromium, chromium-driver)" if programs else ""


@contextmanager
def browser(width: int = 1280, height: int = 1000) -> Iterator[Any]:
    """Yield a selenium driver of a browser of this size. A width below 600 pixels emulates a phone."""
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
    options.timeouts = {"script": PATIENCE * 1000, "pageLoad": PATIENCE * 1000}
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.command_executor.client_config.timeout = PATIENCE
    try:
        yield driver
    finally:
        driver.quit()


def complaints(driver: Any) -> list[str]:
    """The console messages since the last call, errors and warnings of the browser included."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requested(driver: Any) -> set[str]:
    """The addresses requested since the last call, without `data:` addresses."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [message["params"]["request"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {request["url"] for request in sent if not request["url"].startswith("data:")}


def address(page: Path, fragment: str = "") -> str:
    """The address of a file, with the fragment of a link."""
    return page.resolve().as_uri() + fragment
