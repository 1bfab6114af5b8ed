import io
from dataclasses import replace

import pytest

from blockwise.events import RunFinished
from blockwise.monitor import text
from blockwise.status import Counts
from tests.monitor.values import DONE, HOSTILE, RUNNING, Clock, failure, worker


@pytest.mark.parametrize(
    ("nbytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1449, "1.4 kB"),
        (23e6, "23 MB"),
        (999.6e6, "1.0 GB"),
        (4e12, "4.0 TB"),
        (5e15, "5.0 PB"),
    ],
)
def test_bytes(nbytes, shown):
    assert text.human_bytes(nbytes) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0, "0 ms"),
        (0.0234, "23 ms"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7980, "2 h 13 min"),
        (367_200, "4 d 06 h"),
    ],
)
def test_seconds(seconds, shown):
    assert text.human_seconds(seconds) == shown


@pytest.mark.parametrize(("rate", "shown"), [(0, "0"), (12_345.6, "12,346"), (12.34, "12.3"), (0.05, "0.050")])
def test_rates(rate, shown):
    assert text.human_rate(rate) == shown


@pytest.mark.parametrize(("share", "shown"), [(0, "0.0 %"), (0.99999, "99.9 %"), (1, "100.0 %")])
def test_percent_says_100_only_at_the_end(share, shown):
    assert text.percent(share) == shown


@pytest.mark.parametrize(
    ("foreign", "shown"), [("", ""), ("\n\n  first\nsecond", "first"), ("\x1b[31mred\x07", "�[31mred�"), ("x" * 30, "x" * 9 + "…")]
)
def test_first_line(foreign, shown):
    assert text.first_line(foreign, 10) == shown


def test_a_running_status_shows_what_matters():
    shown = text.status_text(RUNNING)
    for part in ["demo.run  running", "45.2 %", "1,234 blocks/s", "57 MB/s", "ETA 44 s", "worker-1", "812 MB", "93%", "1,234", "poison"]:
        assert part in shown
    assert "rates  running  45,200  100,000       1       12       7" in shown


def test_a_finished_status_drops_what_only_a_running_one_has():
    shown = text.status_text(DONE)
    assert "100.0 %" in shown
    assert not any(word in shown for word in ["ETA", "worker", "page", "failed block"])


@pytest.mark.parametrize(("silent_s", "warned"), [(9.0, False), (11.0, True)])
def test_a_silent_driver_is_named(silent_s, warned):
    assert ("no sign of the driver for 11 s" in text.status_text(RUNNING, silent_s=silent_s)) is warned


@pytest.mark.parametrize(("total", "done", "state", "share"), [(0, 0, "done", 1.0), (0, 0, "running", 0.0), (8, 2, "running", 0.25)])
def test_share_done(total, done, state, share):
    assert text.share_done(replace(RUNNING, state=state, blocks=Counts(total=total, done=done))) == share


def test_long_lists_are_cut_and_counted():
    many = replace(RUNNING, workers=tuple(map(worker, range(500))), failures=tuple(map(failure, range(21))))
    shown = text.status_text(many)
    assert "and 484 more workers" in shown
    assert "and 1 more failed block" in shown
    assert len(shown.splitlines()) < 60


def test_foreign_text_cannot_move_the_cursor():
    shown = text.status_text(replace(RUNNING, run=HOSTILE, message=HOSTILE, failures=(failure(error=HOSTILE, domain=HOSTILE),)))
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("state", "failed", "head", "advice"),
    [
        ("done", 0, "run done: 1 block done in 2.0 s", "blockwise report /r"),
        ("failed", 2, "run failed: 1 block done, 2 failed in 2.0 s", "blockwise retry /r"),
        ("interrupted", 0, "run interrupted: 1 block done in 2.0 s", "continues where it stopped"),
    ],
)
def test_summary(state, failed, head, advice):
    lines = text.summary(RunFinished(state=state, exit_code=1, done=1, failed=failed, seconds=2.0, folder="/r"))
    assert lines[0] == head
    assert advice in lines[1]


def test_a_heart_counts_from_the_last_beat():
    clock = Clock()
    heart = text.Heart(clock)
    heart.silent_s(1)
    clock.now_s += 12
    assert heart.silent_s(1) == 12
    assert heart.silent_s(2) == 0


def test_watch_draws_until_the_run_ends():
    states, out = iter([RUNNING, RUNNING, DONE]), io.StringIO()
    last = text.watch(lambda: next(states), lambda seconds: False, stream=out, clock=Clock())
    assert last is DONE
    assert "100.0 %" in out.getvalue()


def test_watch_ends_when_told():
    assert text.watch(lambda: RUNNING, lambda seconds: True, stream=io.StringIO()) is RUNNING


def test_ctrl_c_ends_the_watch_not_the_program():
    def interrupted(seconds):
        raise KeyboardInterrupt

    assert text.watch(lambda: RUNNING, interrupted, stream=io.StringIO()) is RUNNING


@pytest.mark.parametrize(
    ("figures", "line"),
    [
        ({"partners": 0, "f_score": 0.83333, "data set": "out.parquet"}, "collect: partners 0, f_score 0.8333"),
        ({"data set": "out.parquet"}, ""),
        ({}, ""),
    ],
)
def test_figures_are_said_in_a_line(figures, line):
    assert text.figures_line("collect", figures) == line
