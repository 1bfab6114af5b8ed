"""Who drives a run, and whether that driver lives."""

import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import psutil
import pytest

from blockwise.errors import RunActive
from blockwise.folder import RunFolder
from blockwise.heartbeat import Heartbeat, boot_id, drop_dead, is_local, process_lives, refuse_second, start_of, this_driver
from blockwise.ledger import open_ledger
from blockwise.status import Counts, Status

REMOTE = {"host": "elsewhere", "boot_id": "another"}


@pytest.fixture
def ledger(tmp_path):
    with closing(open_ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield ledger


class Clock:
    """Stands in for waiting: counts it, and lets a remote driver beat."""

    def __init__(self, ledger, beats=()):
        self.ledger, self.beats, self.waited = ledger, beats, 0

    def __call__(self, seconds):
        self.waited += 1
        for driver in self.beats:
            self.ledger.beat(replace(driver, beat=self.waited))


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_this_process_lives_and_is_local():
    me = this_driver()
    assert is_local(me)
    assert process_lives(me)
    assert boot_id() == boot_id() != ""


@pytest.mark.parametrize("change", [lambda: {"pid": dead_process()}, lambda: {"started_s": 1.0}])
def test_a_dead_pid_or_one_that_was_given_to_another_process_is_dead(change):
    assert not process_lives(replace(this_driver(), **change()))


@pytest.mark.skipif(not hasattr(psutil, "PROCFS_PATH"), reason="the system tells no time since its boot")
@pytest.mark.parametrize("jump_s", [3600, -3600, 2])
def test_a_clock_that_jumps_makes_no_living_driver_dead(monkeypatch, jump_s):
    """The kernel moves the date of its boot with the clock, and psutil every start of a process with that."""
    row, booted_s = this_driver(), psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted_s + jump_s)
    assert process_lives(row)


def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    row = replace(this_driver(), pid=process.pid, started_s=start_of(process.pid))
    assert process_lives(row)
    process.kill()
    psutil.wait_procs([psutil.Process(process.pid)], timeout=0.1)  # looks, and leaves it a zombie
    while psutil.pid_exists(process.pid) and psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not process_lives(row)
    process.communicate()


def test_a_dead_driver_of_this_machine_is_dropped_at_once(ledger):
    ledger.join(replace(this_driver(), pid=dead_process()))
    clock = Clock(ledger)
    assert (drop_dead(ledger, clock), clock.waited) == ([], 0)


def test_a_living_driver_stays_and_is_named(ledger):
    me = this_driver()
    ledger.join(me)
    living = drop_dead(ledger, Clock(ledger))
    assert [d.id for d in living] == [me.id]
    with pytest.raises(RunActive, match=f"process {me.pid}"):
        refuse_second("folder", living)
    refuse_second("folder", [])


def test_a_driver_elsewhere_lives_while_its_counter_moves(ledger):
    far = replace(this_driver(), **REMOTE)
    ledger.join(far)
    clock = Clock(ledger, beats=(far,))
    assert [d.id for d in drop_dead(ledger, clock)] == [far.id]
    assert clock.waited == 1


def test_a_driver_elsewhere_whose_counter_stands_still_is_dropped(ledger, monkeypatch):
    monkeypatch.setattr("blockwise.heartbeat.SILENCE_S", 0.05)
    ledger.join(replace(this_driver(), **REMOTE))
    assert drop_dead(ledger, lambda seconds: None) == []


def test_a_ledger_that_was_away_for_long_makes_no_living_driver_dead(ledger, monkeypatch):
    """Its answer took all of SILENCE_S; the other driver's next beat comes some looks later."""
    monkeypatch.setattr("blockwise.heartbeat.SILENCE_S", 0.0)
    far, looks = replace(this_driver(), **REMOTE), iter(range(100))
    ledger.join(far)
    assert [d.id for d in drop_dead(ledger, lambda seconds: ledger.beat(replace(far, beat=next(looks) // 5)))] == [far.id]


def status():
    return Status(run="r", task="t", folder="f", output="", state="running", blocks=Counts(), stages=())


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr("blockwise.heartbeat.STATUS_S", 0.02)


def test_the_row_and_the_status_beat(tmp_path, fast):
    folder = RunFolder.make(tmp_path / "run")
    me = this_driver()
    moved = threading.Event()

    def snapshot():
        if folder.read_status().beat >= 6:
            moved.set()
        return status()

    with closing(open_ledger(folder.ledger)) as ledger:
        ledger.join(me)
        with Heartbeat(folder, folder.ledger, me, snapshot, lambda why: None):
            assert moved.wait(20)
        assert ledger.drivers()[0].beat >= 4
    assert folder.read_status().state == "running"


def test_a_driver_whose_row_was_taken_away_is_told_once(tmp_path, fast):
    folder = RunFolder.make(tmp_path / "run")
    told, heard = [], threading.Event()

    def lost(why):
        told.append(why)
        heard.set()

    with Heartbeat(folder, folder.ledger, this_driver(), status, lost):
        assert heard.wait(20)
    assert len(told) == 1
    assert "took the run over" in told[0]
