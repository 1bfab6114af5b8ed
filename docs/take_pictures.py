"""Takes the pictures of the live page that the how-to shows: `python -m docs.take_pictures` from the root of the checkout.

Needs the packages chromium and chromium-driver. The first picture is of a real run; the others are of states made up here: a large run on
500 workers with GPUs, and the same on a phone.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.browser import DESKTOP, PHONE, Browser, chromium
from tests.monitor.large import large_status, served
from tests.monitor.test_page_in_browser import figure, running
from tests.monitor.watched_run import BLOCKS, SECOND_GATE

FOLDER = Path(__file__).parent / "pictures"
"""Where they go unless a folder is given."""


PLACES = """
poll = () => {};
const [root, folder] = arguments;
Object.assign(last, { folder: last.folder.replace(folder, "/data/lab"), output: last.output.replace(folder, "/data/lab") });
last.driver.host = "workstation";
for (const f of last.failures) f.traceback = f.traceback.replaceAll(root, "");
draw(last);
"""
"""Stops the page and puts other words in the place of where the picture is taken."""


def main(folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        take_run(browser, folder / "page.png")
        with served() as (show, address):
            show(large_status())
            take(browser, address, folder / "page_large.png", DESKTOP, 1400)
            take(browser, address, folder / "page_phone.png", PHONE, 1600)


def take_run(browser: Browser, file: Path) -> None:
    """A real run, with a failed block whose traceback is unfolded."""
    with TemporaryDirectory() as folder, running(Path(folder)) as run:
        run.open_gate("first")
        browser.open(run.page)
        browser.until(lambda: figure(browser, "blocks") == f"{SECOND_GATE - 1} of {BLOCKS}")
        browser.find("#failures summary")[0].click()
        browser.run(PLACES, f"{Path.cwd()}/", folder)
        browser.picture(file)


def take(browser: Browser, address: str, file: Path, size: tuple[int, int], most: int) -> None:
    """A made-up state, its first `most` pixels."""
    browser.open(address, size)
    browser.until(lambda: len(browser.find("#workers tr")) > 10 and browser.run("return samples.length") > 3)
    browser.picture(file, most)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
