import base64
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from blockwise.errors import StorageError
from blockwise.monitor.report import MAX_FAILURES, write_report
from blockwise.status import Counts, HistoryPoint, SlowBlock
from blockwise.task import Picture
from tests.monitor.values import DONE, HOSTILE, RUNNING, TRACEBACK, failure

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
FAILED = replace(RUNNING, state="failed")


class Page(HTMLParser):
    """The tags, attributes and texts of a page; refuses tags that are not closed."""

    VOID = ("meta", "img")

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def written(folder, **values):
    write_report(folder / "report.html", **{"status": FAILED, "config_text": 'task = "cascade"', **values})
    return Page(folder / "report.html")


def test_a_report_shows_what_happened(tmp_path):
    page = written(
        tmp_path,
        history=[HistoryPoint(10.0 * i, 100 * i, 0) for i in range(5)],
        slowest=[SlowBlock("rates", "session_7", 77, 0.5, 4.0, 1.25)],
        provenance={"python": "3.11.2", "inputs": [{"path": "a.mat"}]},
    )
    for part in [
        "45,200 of 100,000",
        "45.2 %",
        "session_2 · block 1,234",
        TRACEBACK,
        "session_7",
        "5.8 s",
        'task = "cascade"',
        "3.11.2",
        "a.mat",
    ]:
        assert part in page.text
    assert ("aria-label", "blocks per second over time") in page.attributes


def test_pictures_are_inside(tmp_path):
    page = written(tmp_path, pictures=[Picture("One neuron", PNG, "dF/F and rates")])
    (source,) = [value for name, value in page.attributes if name == "src"]
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PNG
    assert "dF/F and rates" in page.text


def test_foreign_text_stays_text(tmp_path):
    bad = {"run": HOSTILE, "task": HOSTILE, "folder": HOSTILE, "output": HOSTILE}
    failures = (failure(error=HOSTILE, traceback=HOSTILE, domain=HOSTILE, stage=HOSTILE, kind=HOSTILE, worker=HOSTILE),)
    stages = tuple(replace(stage, name=HOSTILE) for stage in FAILED.stages)
    page = written(
        tmp_path,
        status=replace(FAILED, **bad, failures=failures, stages=stages),
        config_text=HOSTILE,
        slowest=[SlowBlock(HOSTILE, HOSTILE, 1, 1, 1, 1)],
        pictures=[Picture(HOSTILE, PNG, HOSTILE)],
        provenance={HOSTILE: HOSTILE, "list": [HOSTILE]},
    )
    assert page.text.count("</script><script>alert(1)</script>") >= 15
    assert page.tags.count("img") == 1
    assert "script" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_nothing_is_fetched(tmp_path):
    page = written(tmp_path, pictures=[Picture("p", PNG)])
    assert not {"link", "script", "iframe", "object", "a"} & set(page.tags)
    assert all(value.startswith("data:") for name, value in page.attributes if name in ("src", "href"))
    assert any("default-src 'none'" in (value or "") for _, value in page.attributes)
    assert "url(" not in page.text


@pytest.mark.parametrize("title", ["Example input", "Slowest", "failed block", "Configuration", "Provenance", "Blocks per second"])
def test_an_empty_section_is_left_out(tmp_path, title):
    assert title not in written(tmp_path, status=DONE, config_text="").text


@pytest.mark.parametrize(("failed", "listed", "more"), [(1, 1, None), (12, 1, "and 11 more"), (900, 900, f"and {900 - MAX_FAILURES} more")])
def test_many_failures_are_cut_and_counted(tmp_path, failed, listed, more):
    status = replace(FAILED, blocks=Counts(total=1000, failed=failed), failures=tuple(map(failure, range(listed))))
    page = written(tmp_path, status=status)
    assert page.tags.count("details") == min(listed, MAX_FAILURES)
    assert more is None or more in page.text


def test_a_report_replaces_the_one_before(tmp_path):
    written(tmp_path)
    assert "100.0 %" in written(tmp_path, status=DONE).text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_an_unwritable_place_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write the report to .*absent/report\.html: No such file"):
        write_report(tmp_path / "absent" / "report.html", status=DONE, config_text="")


def test_what_stages_found_and_warned_of_is_shown(tmp_path):
    found = {"partners": 1225, "f_score": 0.83333, "filters": {"drop_autapses": 104}, "<script>": "x"}
    page = written(tmp_path, results=[("collect", found, ["2 were <left> out"]), ("rates", {}, ())])
    for said in ("collect", "partners", "1,225", "0.8333", '{"drop_autapses": 104}', "<script>", "2 were <left> out"):
        assert said in page.text
    assert "script" not in page.tags
