"""What may begin and what never will, held against a search over all blocks after every booking."""

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise import readiness
from blockwise.books import Books
from blockwise.geometry import Domain
from blockwise.graph import Under
from blockwise.grid import PAGE_BLOCKS, Grid, GridSpec
from blockwise.lease import BlockError
from blockwise.ledger import open_ledger
from blockwise.readiness import Need, Readiness
from tests.ledger.conftest import database, mongodb  # noqa: F401
from tests.test_graph import needed, two_grids


@pytest.fixture(autouse=True)
def without_rests(monkeypatch):
    """Look whenever there is something new."""
    monkeypatch.setattr(readiness, "SHARE", 1.0)


def need(below, above, reach=()):
    under = Under(below.grid, above.grid, reach)
    return Need(above, under.counterparts, under)


def drawn(pending, limit=1000):
    """Everything that may begin now."""
    found = []
    for _ in range(limit):
        ids = next(pending, None)
        if ids is None or not ids.size:
            return found
        found += ids.tolist()
    raise AssertionError("no end of looks")


def error(id):
    return BlockError(id, "poison", "bad", "")


@given(two_grids(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_blocks_begin_when_all_they_read_is_settled_and_none_of_it_lost(tmp_path_factory, grids, dice):
    below, above, reach = grids
    masked = [np.array([dice.random() < 0.2 for _ in range(n)]) for n in np.diff(above.starts)]
    masks = [lambda ids, m=m: ~m[ids] for m in masked]
    fate = ["masked" if m else dice.choice(["done", "done", "done", "dead"]) for m in np.concatenate(masked).tolist()]
    needs = {id: needed(below, above, reach, id) for id in range(len(below))}
    with closing(open_ledger(tmp_path_factory.mktemp("books") / "ledger.sqlite")) as ledger:
        upper, lower = Books("a", above, ledger, masks=masks), Books("b", below, ledger)
        pending = Readiness(lower, [need(lower, upper, reach)]).pending()
        todo = [i for part in upper.pending() for i in part.tolist()]
        assert set(todo) == {i for i, f in enumerate(fate) if f != "masked"}
        dice.shuffle(todo)
        settled, dead, begun = {i for i, f in enumerate(fate) if f == "masked"}, set(), set()
        while True:
            new = drawn(pending)
            assert not begun & set(new)
            begun |= set(new)
            orphans = {id for id, some in needs.items() if some & dead and id not in begun}
            assert begun == {id for id, some in needs.items() if some <= settled and not some & dead}
            assert lower.orphans == len(orphans)
            if not todo:
                break
            id = todo.pop()
            if fate[id] == "dead":
                upper.fail(error(id), worker="w", limit=1)
                dead.add(id)
            else:
                upper.book(np.array([id]))
                settled.add(id)
        assert begun | orphans == set(range(len(below)))
        lower.book(np.array(sorted(begun), np.int64))
        assert lower.remaining == 0
        assert next(pending, None) is None


def line(blocks, size=1, context=0):
    return Grid(Domain("d", ("x",), (blocks,)), GridSpec((size,), ((context, context),)))


@pytest.fixture
def ledger(tmp_path):
    with closing(open_ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield ledger


def test_pages_follow_each_other_and_orphans_pass_through_them(ledger):
    """Three stages of three pages each; a lost block costs its neighbours, and those cost theirs."""
    blocks = 2 * PAGE_BLOCKS + 100
    a, b, c = (Books(name, line(blocks, context=1), ledger) for name in "abc")
    second, third = Readiness(b, [need(b, a)]).pending(), Readiness(c, [need(c, b)]).pending()
    lost = {PAGE_BLOCKS, 5, blocks - 1}
    for page in a.pending():
        for part in np.array_split(page, 4):
            for id in lost & set(part.tolist()):
                a.fail(error(id), worker="w", limit=1)
            a.book(np.setdiff1d(part, list(lost)))
            b.book(np.array(sorted(drawn(second)), np.int64))
            c.book(np.array(sorted(drawn(third)), np.int64))
    assert [x.remaining for x in (a, b, c)] == [0, 0, 0]
    assert [x.orphans for x in (a, b, c)] == [0, 3 + 3 + 2, 5 + 5 + 3]
    assert [list(x) for x in (second, third)] == [[], []]


def test_what_was_done_before_is_known_at_once(ledger):
    blocks = PAGE_BLOCKS + 50
    first = Books("a", line(blocks), ledger)
    for page in first.pending():
        first.book(page)
    first.flush()
    a, b = Books("a", line(blocks), ledger), Books("b", line(blocks, context=1), ledger)
    assert sorted(drawn(Readiness(b, [need(b, a)]).pending())) == list(range(blocks))


def test_few_looks_are_made_while_nothing_changes(ledger, monkeypatch):
    a, b = Books("a", line(50), ledger), Books("b", line(50, context=1), ledger)
    looks = []
    monkeypatch.setattr(Need, "missing", lambda self, domain, ids: looks.append(len(ids)) or np.ones(len(ids), bool))
    list(a.pending())
    pending = Readiness(b, [need(b, a)]).pending()
    for _ in range(100):
        assert next(pending).size == 0
    assert len(looks) == 1


def test_a_page_far_ahead_is_not_looked_at(ledger):
    blocks = 20 * PAGE_BLOCKS
    a, b = Books("a", line(blocks), ledger), Books("b", line(blocks, context=1), ledger)
    ready = Readiness(b, [need(b, a)])
    a.book(next(a.pending())[:100])
    assert len(drawn(ready.pending())) == 99
    assert len(ready._waiting) == 2  # the second page needs the last block of the first


@pytest.mark.parametrize("dead", [False, True])
def test_a_domain_is_waited_for_whole(ledger, dead):
    domains = [Domain(n, ("x",), (4,)) for n in "de"]
    grid = Grid(domains, GridSpec((1,)))
    a, b = Books("a", grid, ledger), Books("b", grid, ledger)
    pending = Readiness(b, [Need(a, (0, 1))]).pending()
    for page in a.pending():
        assert drawn(pending) == ([] if page[0] == 0 or dead else [0, 1, 2, 3])
        a.book(page[:-1])
        assert drawn(pending) == []
        (a.fail(error(int(page[-1])), worker="w", limit=1) if dead else a.book(page[-1:]))
    assert (drawn(pending), b.orphans) == (([], 8) if dead else ([4, 5, 6, 7], 0))


def test_a_page_that_another_driver_has_is_left_to_it_and_taken_over_when_it_goes(database):  # noqa: F811
    with closing(open_ledger(database, "run-1")) as one, closing(open_ledger(database, "run-1")) as two:
        books = {name: [Books(name, line(6, context=1), led, driver=d) for led, d in ((one, "one"), (two, "two"))] for name in "ab"}
        (a1, a2), (b1, b2) = books["a"], books["b"]
        (ids,) = list(a1.pending())
        a1.book(ids[:3])
        a1.flush()
        first, second = Readiness(b1, [need(b1, a1)]), Readiness(b2, [need(b2, a2)])
        assert drawn(first.pending()) == [0, 1]
        b1.book(np.array([0]))
        b1.flush()
        assert list(a2.pending()) == []
        a2.refresh()
        assert drawn(second.pending()) == []
        assert (a2.elsewhere, b2.elsewhere, b2.done) == (True, True, 1)
        a1.fail(error(5), worker="w", limit=1)
        a1.book(ids[3:5])
        a1.flush()
        a2.refresh()
        assert list(second.pending()) == []
        assert (b2.orphans, b2.done) == (2, 1)
        one.leave("one")
        assert sorted(drawn(second.taken_over())) == [1, 2, 3]
        b2.book(np.arange(1, 4))
        b2.flush()
        assert (b2.elsewhere, b2.done, b2.remaining) == (False, 4, 0)
