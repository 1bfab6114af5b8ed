"""What a run's driver leaves in history.jsonl, over several drivers."""

from blockwise.events import BlocksDone, StageFinished, StageStarted
from blockwise.folder import RunFolder
from blockwise.history import POINTS, HistoryRecorder
from tests.monitor.values import Clock


def started(done=0, *, stage="rates", main=True):
    return StageStarted(stage=stage, main=main, total=100, done=done)


def done(count, nbytes=10, *, stage="rates"):
    return BlocksDone(stage=stage, worker="w", count=count, nbytes=nbytes, read_s=0.0, compute_s=0.0, write_s=0.0)


def finished(stage="rates"):
    return StageFinished(stage=stage, done=0, failed=0, seconds=1.0)


def record(folder, events, clock):
    """Tell a new recorder the events, one second apart."""
    recorder = HistoryRecorder(folder, clock)
    for event in events:
        recorder(event)
        clock.now_s += 1.0
    return [(p.at_s, p.blocks_done, p.nbytes) for p in folder.history()]


def test_points_are_two_seconds_apart_and_the_ends_are_kept(tmp_path):
    folder = RunFolder.make(tmp_path / "run")
    found = record(folder, [started(), done(1), done(2), done(3), done(4), finished()], Clock(0))
    assert found == [(0, 0, 0), (2, 3, 20), (4, 10, 40), (5, 10, 40)]


def test_other_stages_leave_no_points(tmp_path):
    folder = RunFolder.make(tmp_path / "run")
    events = [started(stage="noise", main=False), done(9, stage="noise"), finished("noise"), started(), done(5, stage="noise"), finished()]
    assert record(folder, events, Clock(0)) == [(3, 0, 0), (5, 0, 0)]


def test_a_second_driver_goes_on_with_bytes_and_blocks(tmp_path):
    folder, clock = RunFolder.make(tmp_path / "run"), Clock(0)
    record(folder, [started(), done(5, 100), finished()], clock)
    assert record(folder, [started(5), done(3, 50), finished()], clock)[-1] == (5, 8, 150)


def test_long_runs_leave_a_bounded_number_of_points(tmp_path):
    folder, clock = RunFolder.make(tmp_path / "run"), Clock(0)
    recorder = HistoryRecorder(folder, clock)
    recorder(started())
    for _ in range(20_000):
        clock.now_s += 10.0
        recorder(done(1))
    assert len(folder.history()) < 10 * POINTS
    assert folder.history()[-1].at_s > 195_000
