import io
import time

import pytest
from rich.console import Console

from blockwise.events import BlockFailed, BlocksDone, Message, RunFinished, RunStarted, StageFinished, StageStarted, WorkerLost
from blockwise.jsonlines import JsonLines
from blockwise.monitor.progress import MAX_FAILURE_LINES, ProgressBar, Quiet, Rate, subscriber_for
from tests.monitor.values import Clock

START = StageStarted(stage="[rates]", main=True, total=1000, done=100)
END = RunFinished(state="failed", exit_code=1, done=999, failed=1, seconds=65.0, folder="/data/demo.run")
STARTED = RunStarted(run="demo.run", task="cascade", folder="/data/demo.run", dashboard="http://d", page="http://p", workers=2)
LOST = WorkerLost(worker="tcp://1", suspects=3, reason="killed")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def batch(count):
    return BlocksDone(stage="[rates]", worker="w", count=count, nbytes=1, read_s=0, compute_s=0, write_s=0)


def failed(final=True):
    error = "ValueError: \x1b[31m[bold]bad"
    return BlockFailed(
        stage="[rates]", domain="s1", block=1234, attempt=3, kind="poison", worker="w", error=error, traceback="", final=final
    )


def drawn(bar):
    console = Console(file=io.StringIO(), width=120)
    console.print(bar.table())
    return console.file.getvalue()


@pytest.fixture
def bar():
    show = ProgressBar(io.StringIO(), clock=Clock())
    show(START)
    return show


def said(bar):
    return bar._console.file.getvalue()


def test_a_line_holds_counts_rate_eta_and_failures(bar):
    bar._clock.now_s += 10
    bar(batch(200))
    bar(failed())
    for part in ["[rates]", "30.0 %", "300/1,000", "20.0 blocks/s", "ETA 35 s", "1 failed"]:
        assert part in drawn(bar)


def test_the_rate_falls_while_nothing_comes(bar):
    bar._clock.now_s += 10
    bar(batch(200))
    bar._clock.now_s += 30
    assert "5.0 blocks/s" in drawn(bar)


def test_without_a_rate_there_is_no_eta(bar):
    assert "ETA –" in drawn(bar)


def test_a_finished_stage_shows_its_time(bar):
    bar(StageFinished(stage="[rates]", done=999, failed=1, seconds=63.0))
    assert "999/1,000" in drawn(bar)
    assert "in 1 min 03 s" in drawn(bar)
    assert "ETA" not in drawn(bar)


def test_an_empty_stage_is_full(bar):
    bar(StageStarted(stage="none", main=False, total=0, done=0))
    assert "100.0 %" in drawn(bar)


@pytest.mark.parametrize(
    ("event", "parts"),
    [
        (STARTED, ["demo.run (cascade) on 2 workers", "/data/demo.run", "http://d", "http://p"]),
        (LOST, ["worker tcp://1 lost: killed (3 suspected blocks)"]),
        (failed(), ["[rates]: block 1,234 of s1 failed after 3 attempts (poison): ValueError: �[31m[bold]bad"]),
        (Message(text="disk is full", level="warning"), ["warning: disk is full"]),
        (StageFinished(stage="[rates]", done=1, failed=0, seconds=1.0, figures={"spikes": 1234}), ["[rates]: spikes 1,234"]),
        (END, ["run failed: 999 blocks done, 1 failed in 1 min 05 s", "blockwise retry /data/demo.run"]),
    ],
)
def test_lines_above_the_bar(bar, event, parts):
    bar(event)
    assert all(part in said(bar) for part in parts)
    assert "\x1b" not in said(bar)


def test_a_flood_of_failures_is_counted_not_listed(bar):
    for _ in range(500):
        bar(failed())
    assert len(said(bar).splitlines()) == MAX_FAILURE_LINES + 1
    assert "500 failed" in drawn(bar)


@pytest.mark.parametrize("event", [batch(1), failed(final=False), START])
def test_what_is_not_worth_a_line(bar, event):
    bar(event)
    assert said(bar) == ""


def test_a_terminal_gets_a_live_line_until_the_run_ends(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    bar = ProgressBar(terminal)
    bar(START)
    bar(batch(900))
    bar(END)
    bar.close()
    assert "1,000/1,000" in terminal.getvalue()
    assert "blockwise retry /data/demo.run`" in terminal.getvalue().splitlines()[-1]


def test_an_event_costs_microseconds(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    bar, event = ProgressBar(Terminal()), batch(1)
    bar(START)
    began_s = time.process_time()
    for _ in range(20_000):
        bar(event)
    spent_s = time.process_time() - began_s
    bar.close()
    assert spent_s < 20_000 * 50e-6


@pytest.mark.parametrize(("stream", "kind"), [(Terminal(), ProgressBar), (io.StringIO(), JsonLines)])
def test_the_stream_decides(stream, kind):
    assert type(subscriber_for(stream)) is kind


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_quiet_shows_trouble_and_the_end(stream):
    show = subscriber_for(stream, quiet=True)
    assert isinstance(show, Quiet)
    for event in [STARTED, START, batch(1), Message(text="tuned"), failed(final=False), LOST, failed(), END]:
        show(event)
    show.close()
    lines = stream.getvalue().splitlines()
    assert "lost" in lines[0]
    assert "poison" in lines[1]
    assert len(lines) in (3, 4)  # the end is one JSON line or two sentences


def test_the_rate_looks_back_over_a_bounded_window():
    rate = Rate(0.0, 0)
    for second in range(1, 101):
        rate.add(float(second), 10 * second if second < 50 else 500)
    assert rate.per_s(100.0, 500) == pytest.approx((500 - 410) / 59)
