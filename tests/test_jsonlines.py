import io
import json

import pytest

from blockwise.events import BlockFailed, BlocksDone, Message, RunFinished, RunStarted, StageFinished, WorkerLost
from blockwise.jsonlines import JsonLines, event_name
from tests.monitor.values import HOSTILE, Clock


def batch(count=10, stage="rates", worker="a"):
    return BlocksDone(stage=stage, worker=worker, count=count, nbytes=100, read_s=1, compute_s=2, write_s=3)


FINISHED = StageFinished(stage="rates", done=30, failed=0, seconds=1.0)
STARTED = RunStarted(run="r", task="t", folder="/r", dashboard="", page="", workers=2)
FAILED = BlockFailed(stage="rates", domain="d", block=1, attempt=1, kind="poison", worker="w", error=HOSTILE, traceback="a\nb", final=True)


class Lines:
    def __init__(self):
        self.stream, self.clock = io.StringIO(), Clock()
        self.show = JsonLines(self.stream, clock=self.clock)

    def read(self):
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.mark.parametrize("event", [STARTED, FAILED, FINISHED, Message(text="a\nb"), WorkerLost(worker="w", suspects=3, reason="")])
def test_each_event_is_one_line_with_its_fields(event):
    lines = Lines()
    lines.show(event)
    (line,) = lines.read()
    assert line.pop("event") == event_name(event)
    assert type(event)(**line) == event


@pytest.mark.parametrize(("event", "name"), [(STARTED, "run_started"), (batch(), "blocks_done"), (Message(text=""), "message")])
def test_names_are_snake_case(event, name):
    assert event_name(event) == name


def test_batches_come_once_a_second_and_stage():
    lines = Lines()
    for _ in range(1280):  # 10 s at 128 batches a second
        lines.show(batch())
        lines.show(batch(stage="noise"))
        lines.clock.now_s += 1 / 128
    assert len(lines.read()) == 20
    assert sum(line["count"] for line in lines.read() if line["stage"] == "rates") == 10 * (9 * 128 + 1)


@pytest.mark.parametrize(("workers", "named"), [("aa", "a"), ("ab", "")])
def test_a_sum_names_its_worker_where_there_is_one(workers, named):
    lines = Lines()
    lines.show(batch())
    for worker in workers:
        lines.show(batch(worker=worker))
    lines.show.close()
    assert lines.read()[-1] | {"at_s": 0} == {
        "event": "blocks_done", "at_s": 0, "stage": "rates", "worker": named,
        "count": 20, "nbytes": 200, "read_s": 2, "compute_s": 4, "write_s": 6,
    }  # fmt: skip


@pytest.mark.parametrize("end", [FINISHED, RunFinished(state="done", exit_code=0, done=30, failed=0, seconds=1, folder="/r")])
def test_what_is_left_comes_before_the_end(end):
    lines = Lines()
    for _ in range(3):
        lines.show(batch())
    lines.show(end)
    assert [line["event"] for line in lines.read()] == ["blocks_done", "blocks_done", event_name(end)]
    assert sum(line.get("count", 0) for line in lines.read()) == 30


def test_failures_do_not_break_the_throttle():
    lines = Lines()
    for _ in range(50):
        lines.show(batch())
        lines.show(FAILED)
    assert [line["event"] for line in lines.read()].count("blocks_done") == 1
