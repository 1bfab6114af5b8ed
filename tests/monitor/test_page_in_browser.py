"""The live page in a real browser while a real run works: what it shows, and how it ends."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blockwise.monitor.page import MAX_WORKERS
from tests.browser import DESKTOP, PHONE, Browser, chromium
from tests.monitor.large import WORKERS, large_status, served
from tests.monitor.watched_run import BLOCKS, FIRST_GATE, POISON, SECOND_GATE

COLOURS = """
const canvas = document.getElementById("map"), pen = canvas.getContext("2d");
const cells = last.map.length, shape = mapShape(cells, canvas.clientWidth);
const names = ["done", "running", "failed", "pending"], style = getComputedStyle(document.documentElement);
const known = Object.fromEntries(names.map((n) => {
  pen.fillStyle = style.getPropertyValue(`--${n}`).trim();
  return [pen.fillStyle, n];
}));
return [...Array(cells).keys()].map((i) => {
  const at = [(i % shape.across + 0.4) * shape.side, (Math.floor(i / shape.across) + 0.4) * shape.side];
  const [r, g, b] = pen.getImageData(...at.map((v) => Math.round(v * devicePixelRatio)), 1, 1).data;
  return known["#" + [r, g, b].map((v) => v.toString(16).padStart(2, "0")).join("")] || "partly";
});
"""


class Run:
    """A run as a process, and the page that shows it."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder, self.process = folder, process
        line = next(line for line in iter(process.stdout.readline, "") if "run_started" in line)
        self.page = json.loads(line)["page"]

    def open_gate(self, name: str) -> None:
        (self.folder / name).touch()

    def end(self) -> int:
        self.process.stdout.read()
        return self.process.wait(60)


@contextmanager
def running(folder: Path) -> Iterator[Run]:
    command = [sys.executable, "-m", "tests.monitor.watched_run", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            yield Run(folder, process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def colours(browser: Browser) -> Counter[str]:
    """How many cells of the block map have which colour."""
    return Counter(browser.run(COLOURS))


def figure(browser: Browser, name: str) -> str:
    """One of the large figures."""
    return browser.run(
        "return [...document.querySelectorAll('#figures div')].filter((d) => d.querySelector('dt').textContent === arguments[0])"
        ".map((d) => d.querySelector('dd').textContent)[0] || ''",
        name,
    )


def steps(browser: Browser) -> list[list[int]]:
    """Per row of a worker: blocks in reading, computing, writing."""
    return browser.run(
        "return [...document.querySelectorAll('#workers tbody tr')].map("
        "(row) => [...row.querySelectorAll('.steps b')].map((b) => +b.textContent))"
    )


def test_a_run_is_watched_from_its_first_block_to_its_end(browser, tmp_path):
    with running(tmp_path) as run:
        browser.open(run.page)
        browser.until(lambda: figure(browser, "blocks") == f"{FIRST_GATE - 1} of {BLOCKS}", "119 blocks are done")
        assert browser.text("#state") == "running"
        browser.until(lambda: colours(browser)["done"] == FIRST_GATE - 1, "the map is drawn at the page's width")
        assert colours(browser)["failed"] == 1
        assert colours(browser)["pending"] >= BLOCKS - SECOND_GATE
        browser.until(lambda: [s[1] for s in steps(browser)] == [1, 1], "both workers compute")
        assert [cell.text for cell in browser.find("#workers td:nth-child(4)")] == ["none", "none"]  # no GPU
        run.open_gate("first")
        browser.until(lambda: figure(browser, "blocks") == f"{SECOND_GATE - 1} of {BLOCKS}", "the map fills")
        browser.until(lambda: colours(browser)["done"] == SECOND_GATE - 1, "the map is drawn again")
        assert figure(browser, "time left") not in ("", "–")
        assert browser.text("#failure-title") == "1 failed block"
        summary = browser.find("#failures summary")[0]
        assert f"block {POISON}" in summary.text
        summary.click()
        assert browser.find("#failures pre")[0].is_displayed()
        assert f"ValueError: section {POISON} has no contrast" in browser.find("#failures pre")[0].text
        assert 'raise ValueError(f"section {block.id} has no contrast")' in browser.find("#failures pre")[0].text
        run.open_gate("second")
        assert run.end() == 1
        browser.until(lambda: browser.text("#notice").startswith("The run has ended"), "the end is told")
    assert browser.text("#state") == "failed"
    assert colours(browser) == {"done": BLOCKS - 1, "failed": 1}
    assert browser.find("#failures pre")[0].is_displayed()  # whoever reads it is not disturbed
    assert not [e for e in browser.errors() if "status.json" not in e and "favicon" not in e]


def test_a_run_that_is_stopped_says_so(browser, tmp_path):
    with running(tmp_path) as run:
        browser.open(run.page)
        browser.until(lambda: figure(browser, "blocks") == f"{FIRST_GATE - 1} of {BLOCKS}")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 3
        browser.until(lambda: browser.text("#state") == "interrupted", "the state is interrupted")
        browser.until(lambda: browser.text("#notice").startswith("The run has ended"))


def test_a_driver_that_is_killed_is_missed(browser, tmp_path):
    with running(tmp_path) as run:
        browser.open(run.page, PHONE)
        browser.until(lambda: figure(browser, "blocks") == f"{FIRST_GATE - 1} of {BLOCKS}")
        run.process.kill()
        browser.until(lambda: browser.text("#notice").startswith("Driver gone"))
    assert browser.text("#state") == "running"
    assert "the same blockwise run continues from there" in browser.text("#notice")


@pytest.fixture(scope="module")
def large(browser) -> Iterator[str]:
    """The address of a page that shows 10^6 blocks on 500 workers."""
    with served() as (show, address):
        show(large_status())
        yield address


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_large_run_fits_the_window_and_is_drawn_quickly(browser, large, size):
    browser.open(large, size)
    browser.until(lambda: len(steps(browser)) == MAX_WORKERS, "the workers have their lines")
    assert browser.text("#worker-title") == f"{WORKERS} workers"
    assert browser.text("#fleet-legend").endswith("20 idle")
    assert browser.run("return document.documentElement.scrollWidth - window.innerWidth") <= 0
    took_ms = browser.run("return [...Array(9)].map(() => { const t = performance.now(); draw(last); return performance.now() - t; })")
    assert sorted(took_ms)[4] < 250
    assert [cell.text for cell in browser.find("#workers td:nth-child(4)")][:1] == ["0 % 32 GB of 86 GB"]
