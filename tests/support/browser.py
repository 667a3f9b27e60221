"""A real Chromium without a window, and what a person would read on its page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

PROGRAMS = ("chromium", "chromedriver")
"""Debian's packages chromium and chromium-driver."""
_ROWS = """
  return [...document.getElementById(arguments[0]).rows].map((row) => [...row.cells].map((cell) => {
    const data = cell.querySelector("data");
    return data ? (data.value === "" ? null : Number(data.value)) : cell.textContent;
  }));
"""


class Browser:
    """One page at a time. Made by `open_browser`."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        """Leaves the page before, forgets its complaints, and opens this one."""
        self._driver.get("about:blank")
        self.console()
        self._driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """What the JavaScript returns."""
        return self._driver.execute_script(script, *arguments)

    def text(self, element_id: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).textContent", element_id))

    def value(self, element_id: str) -> float | None:
        """The exact number behind a rounded one; None where there is none."""
        value = self.run("return document.getElementById(arguments[0]).value", element_id)
        return float(value) if value else None

    def rows(self, element_id: str) -> list[list[Any]]:
        """The cells of a table's body: exact numbers, and texts."""
        found: list[list[Any]] = self.run(_ROWS, element_id)
        return found

    def console(self) -> list[dict[str, Any]]:
        """What the browser has complained of since it was last asked: scripts, policy and network alike."""
        said: list[dict[str, Any]] = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return said

    def look(self, *, width: int = 1280, colours: Literal["light", "dark"] = "light") -> None:
        """How wide the window is, in CSS pixels, and which colours the reader's system prefers."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        preferred = [{"name": "prefers-color-scheme", "value": colours}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferred})

    def press_tab(self) -> str:
        """Moves the focus on by the key; what has it then: its id, else its text."""
        for kind in ("keyDown", "keyUp"):
            self._driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, "key": "Tab", "code": "Tab", **_TAB})
        return str(self.run("return document.activeElement.id || document.activeElement.textContent"))


_TAB = {"windowsVirtualKeyCode": 9, "nativeVirtualKeyCode": 9}


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser of one's own. Skips the test where Chromium is missing, and fails it in CI."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI needs {', '.join(missing)}: install chromium and chromium-driver")
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: install chromium and chromium-driver")
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(str(shutil.which("chromedriver"))))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
