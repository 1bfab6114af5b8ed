import base64
import hashlib
import json
import re
import urllib.error
import urllib.request
from dataclasses import replace

import dask
import pytest
from distributed import LocalCluster

from blockwise.audience import Audience
from blockwise.cluster.settings import http_routes
from blockwise.monitor import page
from blockwise.status import MAP_CELLS, Status
from tests.monitor.values import DONE, HOSTILE, RUNNING, failure, worker


class Driver:
    """What the driver puts into the scheduler."""

    def __init__(self, status):
        self.status, self.audience = status, Audience()

    def snapshot(self):
        return self.status


@pytest.fixture(scope="module")
def cluster():
    with dask.config.set({"distributed.scheduler.http.routes": http_routes()}):
        with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
            yield cluster


@pytest.fixture
def show(cluster):
    """Sets the status of the run; without a call the scheduler has none."""
    yield lambda status: cluster.scheduler.extensions.update({page.EXTENSION: Driver(status)})
    cluster.scheduler.extensions.pop(page.EXTENSION, None)


@pytest.fixture
def get(cluster):
    def get(path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{cluster.scheduler.http_server.port}/{path}", timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    return get


@pytest.mark.parametrize("status", [RUNNING, DONE, replace(RUNNING, run=HOSTILE, message=HOSTILE, failures=(failure(error=HOSTILE),))])
def test_the_status_travels_unchanged(show, get, status):
    show(status)
    code, headers, body = get("blockwise/status.json")
    assert code == 200
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert Status.from_json(json.loads(body)) == status


def test_the_status_moves(show, get):
    show(RUNNING)
    get("blockwise/status.json")
    show(DONE)
    assert json.loads(get("blockwise/status.json")[2])["state"] == "done"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("blockwise", 200),
        ("blockwise/status.json", 404),
        ("blockwise/metrics", 404),
        ("blockwise/other", 404),
        ("blockwise/../style.css", 404),
        ("health", 200),
    ],
)
def test_without_a_run(get, path, code):
    assert get(path)[0] == code


def test_the_dask_dashboard_stays_where_the_page_links_to(get):
    link = re.search(r'href="(\w+)">Dask dashboard', get("blockwise")[2])
    assert get(link[1])[0] == 200


def test_the_policy_admits_the_page_and_nothing_else(get):
    _, headers, body = get("blockwise")
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
        assert policy[f"{tag}-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"


@pytest.mark.parametrize(
    "word", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "https:", "http:"]
)
def test_the_page_is_self_contained_and_sets_text_only(word):
    assert word not in page.page()


@pytest.mark.parametrize("attribute", ["style=", "onclick", "onload", "onerror"])
def test_the_page_has_nothing_its_own_policy_forbids(attribute):
    assert f" {attribute}" not in page.page()


def test_the_largest_answer_stays_small(show, get):
    long = "x" * 50_000
    failures = tuple(failure(error=long, traceback=long) for _ in range(1000))
    show(replace(RUNNING, map=(255,) * MAP_CELLS, workers=tuple(map(worker, range(500))), failures=failures))
    body = get("blockwise/status.json")[2]
    assert len(body.encode()) < 24_000
    assert json.loads(body)["hidden"] == {"workers": 500 - page.MAX_WORKERS, "failures": 1000 - page.MAX_FAILURES}


@pytest.mark.parametrize("workers", [0, 3, 32, 500])
def test_every_worker_has_a_letter_and_the_slowest_a_line(show, get, workers):
    fleet = [worker(i) for i in range(workers)]
    fleet[7:9] = [replace(w, computing=0, reading=0, writing=0, blocks_done=0) for w in fleet[7:9]]
    show(replace(RUNNING, workers=tuple(fleet)))
    answer = json.loads(get("blockwise/status.json")[2])
    assert answer["fleet"] == "".join("i" if i in (7, 8) else "c" for i in range(workers))
    assert [w["name"] for w in answer["workers"] if not w["blocks_done"]] == [w.name for w in fleet[7:9]]


def test_metrics_are_served(show, get):
    show(RUNNING)
    code, headers, body = get("blockwise/metrics")
    assert (code, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert f'blockwise_blocks{{run="{RUNNING.run}",stage="rates",state="done"}} 45200.0' in body


def test_a_single_traceback_keeps_its_end(show, get):
    show(replace(RUNNING, failures=(failure(traceback="a" * 5000 + "the end"),)))
    (shown,) = json.loads(get("blockwise/status.json")[2])["failures"]
    assert shown["traceback"].endswith("the end")
    assert len(shown["traceback"]) == page.MAX_TRACEBACK_CHARS


def test_the_routes_join_those_of_dask():
    modules = http_routes()
    with dask.config.set({"distributed.scheduler.http.routes": modules}):
        assert http_routes() == modules
    assert "distributed.http.scheduler.prometheus" in modules
