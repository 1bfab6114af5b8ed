"""How many blocks a lease holds, and which."""

import numpy as np
import pytest

from blockwise.grid import PAGE_BLOCKS
from blockwise.lease import Receipt
from blockwise.leasing import PIECES, Backlog, Pace, target_lease_s, tell_every_s
from blockwise.presence import SILENT_WORKER_S


def receipt(count, wall_s):
    zeros = np.zeros(count, np.float32)
    return Receipt(1, "w", np.arange(count), zeros, zeros, zeros, zeros, zeros, (), np.empty(0, np.int64), wall_s)


def backlog(*pages):
    return Backlog(iter([np.array(p, np.int64) for p in pages]))


def taken(backlog, size=100, now_s=0.0):
    """Every lease that is ready, as (ids, solo)."""
    return [(ids.tolist(), solo) for ids, solo in iter(lambda: backlog.take(size, now_s), None)]


@pytest.mark.parametrize(("workers", "seconds"), [(1, 1), (50, 1), (100, 2), (1_000, 20), (10_000, 30)])
def test_leases_last_longer_where_workers_are_many(workers, seconds):
    assert target_lease_s(workers) == seconds


@pytest.mark.parametrize("workers", [1, 20, 400, 1_000])
def test_messages_stay_few_where_workers_are_many(workers):
    assert tell_every_s(workers) <= SILENT_WORKER_S / 2
    assert workers / max(0.05, tell_every_s(workers)) <= 400


def test_k_grows_fourfold_at_most_and_ends_at_the_target():
    pace, seen = Pace(1.0), []
    for _ in range(6):
        pace.learn(receipt(int(pace.k), int(pace.k) / 100))  # a block takes 10 ms
        seen.append(pace.k)
    assert seen == [4, 16, 64, 100, 100, 100]


def test_k_shrinks_fourfold_at_most_and_never_below_one():
    pace, seen = Pace(1.0, 100), []
    for _ in range(5):
        pace.learn(receipt(int(pace.k), 10.0 * int(pace.k)))
        seen.append(pace.k)
    assert seen == [25, 6.25, 1.5625, 1, 1]


def test_k_never_exceeds_a_page():
    pace = Pace(30.0)
    for _ in range(20):
        pace.learn(receipt(int(pace.k), 1e-6 * int(pace.k)))
    assert pace.k == PAGE_BLOCKS
    assert Pace(1.0, 1e9).size(10**9, 1) == PAGE_BLOCKS


def test_a_receipt_without_blocks_teaches_nothing():
    pace = Pace(1.0, 10)
    pace.learn(receipt(0, 5.0))
    assert pace.k == 10


@pytest.mark.parametrize(("k", "remaining", "workers", "size"), [(1000, 800, 2, 100), (1000, 7, 2, 1), (5, 10**6, 2, 5), (9, 0, 0, 1)])
def test_a_lease_is_at_most_a_fair_share_of_what_remains(k, remaining, workers, size):
    assert Pace(1.0, k).size(remaining, workers) == size


@pytest.mark.parametrize(("k", "size"), [(1, 8), (7, 8), (17, 16), (100, 96)])
def test_leases_hold_whole_batches(k, size):
    assert Pace(1.0, k, batch=8).size(10**6, 2) == size


def test_fresh_ids_run_over_pages_in_order():
    assert taken(backlog([0, 1, 2], [5, 6], [9]), 4) == [([0, 1, 2, 5], False), ([6, 9], False)]


def test_what_was_given_back_goes_first_and_together():
    b = backlog([0, 1])
    for ids in ([7], [8, 9], [10]):
        b.give_back(np.array(ids))
    assert taken(b, 3) == [([7, 8, 9], False), ([10], False), ([0, 1], False)]


def test_pieces_of_a_lost_lease_stay_apart():
    b = backlog()
    b.give_back_apart(np.arange(20))
    leases = taken(b)
    assert len(leases) == PIECES
    assert [id for ids, _ in leases for id in ids] == list(range(20))


def test_suspects_run_alone_and_before_everything_else():
    b = backlog([0])
    b.retry(5, 0.0, solo=True)
    b.retry(4, 0.0, solo=True)
    assert taken(b) == [([4], True), ([5], True), ([0], False)]


def test_a_retry_waits_until_it_is_due():
    b = backlog([0])
    b.retry(3, 10.0, solo=False)
    assert taken(b, now_s=9.9) == [([0], False)]
    assert not b.empty
    assert taken(b, now_s=10.0) == [([3], False)]
    assert b.empty


def test_pages_are_opened_only_when_needed():
    opened = []
    b = Backlog(opened.append(i) or np.arange(3) + 3 * i for i in range(100))
    b.take(4, 0.0)
    assert opened == [0, 1]
    assert not b.empty
