"""The simulation of 1,000 workers, small: nothing is lost, and what a block costs the driver does not grow with their number."""

import numpy as np
import pytest

from benchmarks.scale import simulate
from benchmarks.scale_simulation import Clock, Inbox, progress_message
from blockwise.dispatch import COMMIT_S
from blockwise.lease import Progress
from blockwise.ledger import SqliteLedger

MESSAGES_PER_S = 400
"""Of each of two kinds, at the driver of 1,000 workers."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Figures of a tenth of a run and of all of it, and how often each committed."""
    commits, commit, found = [], SqliteLedger.commit, {}
    patch = pytest.MonkeyPatch()
    patch.setattr(SqliteLedger, "commit", lambda ledger, booking: (commits.append(len(booking.marks)), commit(ledger, booking))[1])
    for blocks in (100_000, 1_000_000):
        commits.clear()
        found[blocks] = {**simulate(tmp_path_factory.mktemp("scale"), blocks), "commits": len(commits)}
    patch.undo()
    return found


@pytest.mark.parametrize("blocks", [100_000, 1_000_000])
def test_no_block_is_lost_though_workers_die(runs, blocks):
    figures = runs[blocks]
    assert (figures["state"], figures["lost"], figures["workers"], len(figures["driver_rss_mb"])) == ("done", 0, 1_000, 3)


def test_workers_died_and_few_of_their_blocks_were_begun_twice(runs):
    figures = runs[1_000_000]
    assert figures["deaths"] >= 1
    assert figures["redone"] <= figures["deaths"] * 4 * figures["blocks_per_lease"]


def test_a_block_costs_no_more_where_there_are_more(runs):
    few, many = runs[100_000], runs[1_000_000]
    assert many["driver_us_per_block"] < few["driver_us_per_block"]
    assert many["blocks_per_lease"] > few["blocks_per_lease"]


def test_messages_and_commits_come_by_time_not_by_block(runs):
    figures = runs[1_000_000]
    assert figures["messages"] < 2 * MESSAGES_PER_S * 1.1 * figures["simulated_s"]
    assert figures["commits"] < figures["simulated_s"] / COMMIT_S + 10


def test_the_ledger_grows_by_bits(runs):
    """10 ** 6 blocks are 125 kB of bits, their checksums 4 MB; tables and log take the rest."""
    assert runs[1_000_000]["ledger_mb"] < 0.125 + 4 + 6


@pytest.mark.parametrize(
    ("ids", "told", "done"),
    [(range(100, 160), 0, 7), (range(100, 160), 7, 12), (range(5), 3, 5), (range(2), 0, 1), (range(0, 40, 2), 3, 9), (range(900), 0, 890)],
)
def test_messages_put_down_by_hand_are_those_of_a_worker(ids, told, done):
    ids = np.array(ids, np.int64)
    begun = ids[told + 2 * (told > 0) : done + 2]
    sent = Progress.decode(progress_message(9, ids, told, done))
    real = Progress.decode(Progress(9, begun, ids[told:done], np.zeros(done - told, np.uint32)).encode())
    assert all(np.array_equal(getattr(sent, name), getattr(real, name)) for name in ("lease", "started", "done", "checksums"))


def test_the_clock_jumps_while_the_driver_waits():
    clock, said = Clock(), []
    inbox = Inbox(clock)
    clock.at(3.0, lambda: inbox.put(lambda: said.append(clock.now_s)))
    inbox.get(timeout=5.0)()
    assert said == [3.0]
