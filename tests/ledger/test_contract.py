"""What every keeper of the ledger guarantees, asked of each: SQLite in a file, MongoDB over the wire."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from blockwise.errors import LedgerError, RunActive
from blockwise.grid import PAGE_BLOCKS
from blockwise.ledger import Attempt, Booking, Driver, Ledger, Marks, PageKey
from tests.ledger.conftest import Reopen

KEY = PageKey("rates", "d0", 0)
DRIVER = Driver("driver-1", "host-1", "boot-1", 4242, 1.5e9)
FAILED = Attempt("rates", "d0", 7, 1, "poison", "w-0", "ValueError: 7", "Traceback ...", 100.0)


def marks(key: PageKey, *positions: int, sums: list[int] | None = None) -> Marks:
    return Marks(key, np.array(positions, np.int64), None if sums is None else np.array(sums, np.uint32))


def book(ledger: Ledger, *some: Marks) -> None:
    ledger.commit(Booking(marks=some))


def done(ledger: Ledger, key: PageKey = KEY) -> list[int]:
    return np.flatnonzero(ledger.page(key)).tolist()


def test_an_empty_ledger_reads_as_nothing(ledger: Ledger):
    assert not ledger.page(KEY).any()
    assert ledger.page(KEY).shape == (PAGE_BLOCKS,)
    assert list(ledger.pages("rates", "d0")) == []
    assert ledger.count("rates", "d0") == 0
    assert ledger.attempts() == []
    assert ledger.drivers() == []
    assert [ledger.checksums(KEY), ledger.get("name"), ledger.fingerprint("rates", "d0")] == [None, None, None]


@pytest.mark.parametrize(
    "positions",
    [(0,), (PAGE_BLOCKS - 1,), (31, 32), (7, 8, 63, 64), (5, 5, 5), (9, 3, 6), tuple(range(1000)), tuple(range(PAGE_BLOCKS)), ()],
    ids=["first", "last", "word border", "byte border", "repeated", "unsorted", "run", "whole page", "none"],
)
def test_marks_are_there_when_opened_again(reopen: Reopen, positions: tuple[int, ...]):
    book(reopen(), marks(KEY, *positions))
    assert done(reopen()) == sorted(set(positions))


def test_marking_is_idempotent_and_adds_up(ledger: Ledger):
    for some in ([1, 2], [2, 3], [1, 2]):
        book(ledger, marks(KEY, *some))
    assert done(ledger) == [1, 2, 3]


def test_one_booking_may_name_a_page_twice(ledger: Ledger):
    book(ledger, marks(KEY, 1), marks(replace(KEY, page=5), 2), marks(KEY, 3))
    assert (done(ledger), done(ledger, replace(KEY, page=5))) == ([1, 3], [2])


def test_a_page_is_a_copy(ledger: Ledger):
    ledger.page(KEY)[:] = True
    book(ledger, marks(KEY, 1))
    ledger.page(KEY)[:] = True
    assert done(ledger) == [1]


def test_pages_come_in_order_and_only_those_with_marks(ledger: Ledger):
    book(ledger, *(marks(replace(KEY, page=p), p) for p in (11, 2, 100, 0)), marks(replace(KEY, page=3), 1))
    ledger.unmark(marks(replace(KEY, page=3), 1))
    assert [(page, np.flatnonzero(bits).tolist()) for page, bits in ledger.pages("rates", "d0")] == [(p, [p]) for p in (0, 2, 11, 100)]


def test_stages_and_domains_are_kept_apart(ledger: Ledger):
    keys = [PageKey("a", "b", 1), PageKey("b", "a", 1), PageKey("a", "a", 1), PageKey('a", "b', "", 1)]
    book(ledger, *(marks(key, n) for n, key in enumerate(keys)))
    assert [done(ledger, key) for key in keys] == [[0], [1], [2], [3]]
    assert [ledger.count(key.stage, key.domain) for key in keys] == [1, 1, 1, 1]


def test_count_spans_many_pages(ledger: Ledger):
    rng = np.random.default_rng(1)
    some = [rng.choice(PAGE_BLOCKS, n, replace=False) for n in range(1, 71)]
    book(ledger, *(Marks(replace(KEY, page=p), positions) for p, positions in enumerate(some)))
    assert ledger.count("rates", "d0") == sum(range(1, 71))
    assert len(list(ledger.pages("rates", "d0"))) == 70


def test_checksums_are_kept_by_position(reopen: Reopen):
    ledger = reopen()
    book(ledger, marks(KEY, 40, 3, sums=[2**32 - 1, 5]))
    book(ledger, marks(KEY, PAGE_BLOCKS - 1, 3, sums=[9, 6]), marks(replace(KEY, page=1), 4))
    stored = reopen().checksums(KEY)
    assert stored is not None
    assert (stored.dtype, stored.shape) == (np.uint32, (PAGE_BLOCKS,))
    assert {p: int(stored[p]) for p in np.flatnonzero(stored)} == {3: 6, 40: 2**32 - 1, PAGE_BLOCKS - 1: 9}
    assert ledger.checksums(replace(KEY, page=1)) is None


def test_a_whole_page_of_checksums(ledger: Ledger):
    sums = np.random.default_rng(2).integers(0, 2**32, PAGE_BLOCKS, np.uint32)
    book(ledger, Marks(KEY, np.arange(PAGE_BLOCKS), sums))
    assert np.array_equal(ledger.checksums(KEY), sums)


def test_unmark_takes_marks_and_checksums_back(reopen: Reopen):
    ledger = reopen()
    book(ledger, marks(KEY, 1, 31, 32, sums=[11, 12, 13]))
    ledger.unmark(marks(KEY, 31, 700))
    again = reopen()
    assert done(again) == [1, 32]
    assert np.flatnonzero(again.checksums(KEY)).tolist() == [1, 32]


def test_unmark_of_what_was_never_marked_does_nothing(ledger: Ledger):
    ledger.unmark(marks(KEY, 5))
    ledger.unmark(marks(KEY))
    assert (done(ledger), ledger.checksums(KEY), list(ledger.pages("rates", "d0"))) == ([], None, [])


def test_attempts_come_back_oldest_first(reopen: Reopen):
    some = [
        replace(FAILED, attempt=2, at_s=300.0, final=True, kind="died"),
        FAILED,
        replace(FAILED, stage="noise", domain="d1", at_s=200.0),
        replace(FAILED, block=2**40, at_s=200.0),
    ]
    reopen().commit(Booking(attempts=tuple(some)))
    ledger = reopen()
    assert ledger.attempts() == [some[1], some[2], some[3], some[0]]
    assert ledger.attempts("noise") == [some[2]]
    assert ledger.attempts("other") == []


def test_the_same_attempt_booked_again_replaces(ledger: Ledger):
    for error in ("first", "second"):
        ledger.commit(Booking(attempts=(replace(FAILED, error=error),)))
    assert [a.error for a in ledger.attempts()] == ["second"]


def test_an_attempt_may_hold_any_text_and_numpy_numbers(ledger: Ledger):
    odd = replace(FAILED, block=np.int64(5), error="caf\u00e9 \U0001f9e0 \0 end", traceback="file \udcff.npy")  # type: ignore[arg-type]
    ledger.commit(Booking(attempts=(odd,)))
    assert ledger.attempts() == [replace(odd, block=5, traceback="file \\udcff.npy")]


@pytest.mark.parametrize(
    ("blocks", "left"), [(np.array([7, 9]), [("d0", 8), ("d1", 7)]), (np.array([], np.int64), 4), (None, [("d1", 7)])], ids=str
)
def test_forgotten_attempts_are_gone(ledger: Ledger, blocks: np.ndarray | None, left: list[tuple[str, int]] | int):
    some = [replace(FAILED, domain=d, block=b, attempt=a) for d, b, a in [("d0", 7, 1), ("d0", 7, 2), ("d0", 8, 1), ("d1", 7, 1)]]
    ledger.commit(Booking(attempts=tuple(some)))
    ledger.forget_attempts("rates", "d0", blocks)
    found = [(a.domain, a.block) for a in ledger.attempts()]
    assert found == left if isinstance(left, list) else len(found) == left


@pytest.mark.parametrize("value", [0, 2**70, 1.5, float("inf"), "text \u20ac", True, [1, [2]], {"a.b": {"$c": None}}, {}], ids=repr)
def test_values_come_back_as_stored(reopen: Reopen, value: object):
    reopen().commit(Booking(values={"k": "old", "name with $ and .": 1}))
    reopen().commit(Booking(values={"k": value}))
    ledger = reopen()
    assert (ledger.get("k"), ledger.get("name with $ and ."), ledger.get("other")) == (value, 1, None)


def test_fingerprints_are_per_stage_and_domain(reopen: Reopen):
    ledger = reopen()
    for text in ("old", "new"):
        ledger.set_fingerprint("rates", "d0", {"grid": text, "input.a b": "x"})
    ledger.set_fingerprint("rates", "d1", {})
    again = reopen()
    assert again.fingerprint("rates", "d0") == {"grid": "new", "input.a b": "x"}
    assert (again.fingerprint("rates", "d1"), again.fingerprint("noise", "d0")) == ({}, None)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Booking(marks=(marks(KEY, 1), marks(KEY, PAGE_BLOCKS))), "16384..16384 are not in 0..16383"),
        (Booking(marks=(marks(KEY, 3, -1),)), "-1..3 are not in"),
        (Booking(marks=(marks(KEY, 1, 2, sums=[5]),)), "2 positions but 1 checksums"),
        (Booking(marks=(marks(KEY, 1),), values={"k": object()}), "'k' cannot be stored"),
    ],
    ids=["beyond", "negative", "checksums", "value"],
)
def test_a_bad_booking_leaves_nothing(ledger: Ledger, bad: Booking, says: str):
    with pytest.raises(LedgerError, match=says):
        ledger.commit(replace(bad, attempts=(FAILED,), values={"fine": 1, **(bad.values or {})}))
    assert (done(ledger), ledger.attempts(), ledger.get("fine")) == ([], [], None)


def test_a_driver_joins_beats_and_leaves(reopen: Reopen):
    ledger = reopen()
    ledger.join(DRIVER)
    ledger.join(DRIVER)
    ledger.beat(replace(DRIVER, beat=3, at_s=9.5))
    assert reopen().drivers() == [replace(DRIVER, beat=3, at_s=9.5)]
    ledger.leave(DRIVER.id)
    ledger.leave(DRIVER.id)
    assert ledger.drivers() == []


def test_a_driver_held_for_dead_is_told_so(ledger: Ledger):
    ledger.join(DRIVER)
    ledger.leave(DRIVER.id)
    with pytest.raises(RunActive, match="process 4242 on host-1"):
        ledger.beat(DRIVER)
    assert ledger.drivers() == []


def test_a_second_driver_is_refused_or_shares(reopen: Reopen):
    first, second = reopen(), reopen()
    first.join(DRIVER)
    other = replace(DRIVER, id="driver-2", pid=17)
    if second.shared:
        second.join(other)
        assert [d.id for d in first.drivers()] == ["driver-1", "driver-2"]
    else:
        with pytest.raises(RunActive, match=r"driven by process 4242 on host-1 \(driver driver-1\)"):
            second.join(other)
        assert first.drivers() == [DRIVER]


def test_a_page_has_one_claimant_until_it_leaves(reopen: Reopen):
    first, second = reopen(), reopen()
    assert first.claim(KEY, "a")
    assert first.claim(KEY, "a")
    assert second.claim(KEY, "b") is not second.shared
    assert second.claim(replace(KEY, page=1), "b")
    first.leave("a")
    assert second.claim(KEY, "b")


def test_a_ledger_stays_in_its_process_and_shows_where_it_is(ledger: Ledger):
    assert ledger.url in repr(ledger)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(ledger)
