"""The log of each worker: what is in it, how large it grows, and what a full disk does."""

import re
from pathlib import Path

import pytest

from blockwise import worker_logs
from blockwise.events import BlockFailed, BlocksDone, Message, WorkerLost
from blockwise.worker_logs import WorkerLogs, line, log_name

AT_S = 1_790_000_000.25
ADDRESS = "tcp://10.0.0.7:43121"
DONE = BlocksDone(at_s=AT_S, stage="rates", worker=ADDRESS, count=128, nbytes=12_300_000, read_s=0.4, compute_s=1.25, write_s=0.3)
FAILED = BlockFailed(
    at_s=AT_S,
    stage="rates",
    domain="d",
    block=17,
    attempt=1,
    kind="poison",
    worker=ADDRESS,
    error='E: "x"\ny',
    traceback="t",
    final=False,
)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (DONE, "stage=rates blocks=128 mb=12.300 read_s=0.400 compute_s=1.250 write_s=0.300"),
        (FAILED, r'stage=rates failed=17 domain=d attempt=1 kind=poison error="E: \"x\"\ny"'),
        (WorkerLost(at_s=AT_S, worker="w", suspects=2, reason="Killed\nby whom"), "lost: Killed (2 suspected blocks)"),
    ],
    ids=["done", "failed", "lost"],
)
def test_a_line_says_when_what_and_how_long(event, text):
    assert line(event) == f"2026-09-21T14:13:20.250Z {text}\n"


@pytest.mark.parametrize(
    ("worker", "name"),
    [
        ("tcp://10.0.0.7:43121", "10.0.0.7-43121.log"),
        ("tls://[fe80::1]:9", "fe80-1-9.log"),
        ("tcp://../../etc:1", "etc-1.log"),
        ("worker-3", "worker-3.log"),
    ],
)
def test_a_worker_names_its_log_and_no_other_place(worker, name):
    assert log_name(worker) == name


def written(folder: Path, *events: object, **limits: int) -> dict[str, str]:
    logs = WorkerLogs(folder, **limits)
    for event in events:
        logs(event)
    logs.close()
    return {f.name: f.read_text() for f in folder.iterdir()} if folder.exists() else {}


def test_every_worker_has_its_own(tmp_path):
    other = BlocksDone(stage="s", worker="tcp://h:2", count=1, nbytes=1, read_s=0, compute_s=0, write_s=0)
    found = written(tmp_path / "logs", DONE, other, FAILED, DONE, Message(text="no worker's"))
    assert {name: text.count("\n") for name, text in found.items()} == {"10.0.0.7-43121.log": 3, "h-2.log": 1}


def test_no_worker_no_folder(tmp_path):
    assert written(tmp_path / "logs", Message(text="planned")) == {}


def test_a_second_driver_adds_to_what_is_there(tmp_path):
    written(tmp_path, DONE)
    assert written(tmp_path, DONE)["10.0.0.7-43121.log"].count("\n") == 2


def test_a_log_is_bounded(tmp_path):
    for _ in range(9):
        found = written(tmp_path, *[DONE] * 10, file_bytes=1500)
    assert sorted(found) == ["10.0.0.7-43121.log", "10.0.0.7-43121.log.1"]
    assert sum(map(len, found.values())) < 5000
    assert all(re.fullmatch(r"(2026-\S+ stage=rates .*\n)+", text) for text in found.values())


def test_the_number_of_logs_is_bounded(tmp_path):
    events = [BlocksDone(stage="s", worker=f"tcp://h:{i}", count=1, nbytes=1, read_s=0, compute_s=0, write_s=0) for i in range(20)]
    for i in range(0, 20, 5):
        found = written(tmp_path, *events[i : i + 5], files=8)
    assert len(found) == 8
    assert {f"h-{i}.log" for i in range(15, 20)} <= set(found)


def test_what_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_logs, "EVERY_S", 0.01)
    (tmp_path / "logs").write_text("a file where the folder should be")
    logs = WorkerLogs(tmp_path / "logs")
    logs(DONE)
    logs.close()
    assert (tmp_path / "logs").read_text() == "a file where the folder should be"
