"""The numbers of a status: rates, the map."""

import numpy as np
import pytest

from blockwise.books import Books
from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from blockwise.lease import BlockError
from blockwise.ledger import open_ledger
from blockwise.snapshot import RATE_S, Rates, block_map, counts_of, failures_of
from blockwise.status import MAP_CELLS, Counts


@pytest.fixture
def books(tmp_path):
    opened = []

    def make(blocks):
        ledger = open_ledger(tmp_path / f"{len(opened)}.sqlite")
        opened.append(ledger)
        made = Books("s", Grid(Domain("d", ("x",), (blocks,)), GridSpec((1,))), ledger)
        list(made.pending())
        return made

    yield make
    for ledger in opened:
        ledger.close()


def test_rates_are_means_over_half_a_minute():
    rates = Rates()
    assert rates.add(0.0, 0, 0) == (0.0, 0.0)
    assert rates.add(10.0, 50, 1000) == (5.0, 100.0)
    for second in range(11, 200):
        last = rates.add(float(second), 50 + 2 * (second - 10), 1000)
    assert last == (2.0, 0.0)
    assert len(rates.points) <= RATE_S + 2


@pytest.mark.parametrize("total", [3, MAP_CELLS, MAP_CELLS + 5, 5 * MAP_CELLS + 1])
def test_the_map_is_full_when_all_is_done(books, total):
    account = books(total)
    assert set(block_map(account)) == {0}
    account.book(np.arange(total))
    assert block_map(account) == (100,) * min(total, MAP_CELLS)


def test_the_map_shows_shares_running_and_failed(books):
    account = books(4 * MAP_CELLS)
    account.book(np.array([0, 1, 4, 5, 6, 7]))
    account.fail(BlockError(2, "poison", "bad", ""), worker="w", limit=1)
    account.fail(BlockError(8, "poison", "bad", ""), worker="w", limit=2)
    assert block_map(account, [3, 5, 9, 12])[:5] == (255, 100, 200, 200, 0)


def test_counts_and_failures(books):
    account = books(10)
    account.book(np.array([1, 2]))
    account.flush()
    account.executed = 3
    account.fail(BlockError(7, "poison", "ValueError: bad", "Traceback"), worker="w", limit=1)
    assert counts_of(account, 4) == Counts(total=10, done=2, failed=1, running=4, executed=3)
    (failure,) = failures_of(account)
    assert (failure.domain, failure.block, failure.attempts, failure.error) == ("d", 7, 1, "ValueError: bad")
