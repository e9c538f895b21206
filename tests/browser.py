"""Chromium, driven by selenium: what the tests and benchmarks of pages look through."""

import os
import shutil
import tempfile
import time
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip


def chromium(width: int = 1200, height: int = 900, *, dark: bool = False) -> Any:
    """A browser with an empty profile; the test is skipped, saying why, where there is none."""
    binary, driver = next(filter(None, map(shutil.which, NAMES)), None), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs a browser: Debian's packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra: test)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tempfile.mkdtemp()}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The driver is named: selenium would look for one on the network, and ask a proxy for 127.0.0.1.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    browser = webdriver.Chrome(options=options, service=Service(driver))
    look(browser, width, height, dark=dark)
    return browser


def look(browser: Any, width: int, height: int = 900, *, dark: bool = False) -> None:
    """The width of a phone or of a desk, light or dark."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def find(browser: Any, selector: str) -> list[Any]:
    return list(browser.find_elements("css selector", selector))


def until(browser: Any, selector: str, seconds: float = 15) -> list[Any]:
    """The same, as soon as there is one: a click does not wait for the page that it leads to."""
    end = time.monotonic() + seconds
    while not (found := find(browser, selector)):
        assert time.monotonic() < end, f"no {selector} on {browser.current_url}"
        time.sleep(0.05)
    return found


def shown(browser: Any, selector: str) -> list[Any]:
    return [element for element in find(browser, selector) if element.is_displayed()]


def complaints(browser: Any) -> list[str]:
    """What the page's console said: a broken script, or a policy that stopped something."""
    return [entry["message"] for entry in browser.get_log("browser")]
