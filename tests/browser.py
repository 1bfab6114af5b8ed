"""A headless Chromium for the tests of pages: Debian's packages chromium and chromium-driver, driven by selenium.

Without them the tests skip and say why; with BLOCKWISE_REQUIRE_SERVICES=1 they fail instead.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.services.mongodb import unavailable

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run")
DESKTOP, PHONE = (1280, 960), (390, 844)
WAIT_S = 40.0


class Browser:
    """One window; a thin layer over selenium's driver that waits for what is looked for."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, size: tuple[int, int] = DESKTOP) -> None:
        self.driver.set_window_size(*size)
        self.driver.get(url)

    def find(self, css: str) -> list[Any]:
        return self.driver.find_elements("css selector", css)

    def text(self, css: str) -> str:
        """The text of the first such element; "" where there is none."""
        return self.run("const e = document.querySelector(arguments[0]); return e ? e.textContent : '';", css)

    def until(self, condition: Callable[[], object], what: str = "the page shows it") -> Any:
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, WAIT_S, poll_frequency=0.1).until(lambda _: condition(), what)

    def run(self, script: str, *arguments: object) -> Any:
        """What a piece of JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def errors(self) -> list[str]:
        """What the browser complained of: blocked by a policy, thrown by a script, not found."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def picture(self, file: Path, most: int = 4000) -> None:
        """The page as PNG, from its top to its end or to `most` pixels below it."""
        height = min(most, self.run("return document.documentElement.scrollHeight"))
        self.driver.set_window_size(self.driver.get_window_size()["width"], height + self.run("return outerHeight - innerHeight"))
        file.write_bytes(self.driver.get_screenshot_as_png())


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a fresh profile, which downloads nothing."""
    program, server = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or server is None:
        unavailable("no browser: install the packages chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with TemporaryDirectory(prefix="bw-browser-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--force-device-scale-factor=1", "--hide-scrollbars"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(server))
        driver.set_page_load_timeout(WAIT_S)
        try:
            yield Browser(driver)
        finally:
            driver.quit()
