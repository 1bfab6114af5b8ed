"""Any sequence of bookings, crashes and new drivers leaves what a plain model of the contract says."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from blockwise.errors import LedgerError
from blockwise.grid import PAGE_BLOCKS
from blockwise.ledger import Attempt, Booking, Ledger, Marks, PageKey
from tests.ledger.conftest import Reopen

KEYS = [PageKey("a", "x", 0), PageKey("a", "x", 1), PageKey("a", "y", 0), PageKey("b", "x", 0)]
DOMAINS = sorted({(key.stage, key.domain) for key in KEYS})
positions = st.lists(st.integers(0, 70) | st.integers(PAGE_BLOCKS - 40, PAGE_BLOCKS - 1), max_size=12).map(lambda p: np.array(p, np.int64))
some_marks = st.builds(Marks, st.sampled_from(KEYS), positions)
attempts = st.builds(
    Attempt,
    *(st.sampled_from(names) for names in (["a", "b"], ["x", "y"])),
    block=st.integers(0, 3),
    attempt=st.integers(1, 2),
    kind=st.just("poison"),
    worker=st.just("w"),
    error=st.text(max_size=3),
    traceback=st.just(""),
    at_s=st.integers(0, 3).map(float),
    final=st.booleans(),
)


class LedgerMachine(RuleBasedStateMachine):
    """Books into a real ledger and into sets and dicts; a crash drops the ledger unclosed, a new driver opens it."""

    ledger: Ledger

    def __init__(self, reopen: Reopen) -> None:
        super().__init__()
        self.reopen = reopen

    @initialize()
    def start(self):
        self.ledger = self.reopen()
        for key in KEYS:
            self.ledger.unmark(Marks(key, np.flatnonzero(self.ledger.page(key))))
        for left in self.ledger.attempts():
            self.ledger.forget_attempts(left.stage, left.domain)
        self.done: dict[PageKey, set[int]] = {key: set() for key in KEYS}
        self.attempts: dict[tuple[str, str, int, int], Attempt] = {}
        self.values: dict[str, object] = {"n": self.ledger.get("n")}

    @rule(marks=st.lists(some_marks, max_size=3), failed=st.lists(attempts, max_size=2), n=st.none() | st.integers())
    def book(self, marks: list[Marks], failed: list[Attempt], n: int | None):
        self.ledger.commit(Booking(tuple(marks), tuple(failed), {"n": n}))
        for some in marks:
            self.done[some.key] |= set(some.positions.tolist())
        self.attempts.update({(a.stage, a.domain, a.block, a.attempt): a for a in failed})
        self.values["n"] = n

    @rule(marks=some_marks)
    def a_refused_booking(self, marks: Marks):
        with pytest.raises(LedgerError):
            self.ledger.commit(Booking((marks, Marks(KEYS[0], np.array([PAGE_BLOCKS]))), (), {"n": "refused"}))

    @rule(marks=some_marks)
    def unmark(self, marks: Marks):
        self.ledger.unmark(marks)
        self.done[marks.key] -= set(marks.positions.tolist())

    @rule(stage=st.sampled_from("ab"), domain=st.sampled_from("xy"), blocks=st.none() | st.lists(st.integers(0, 3), max_size=2))
    def forget(self, stage: str, domain: str, blocks: list[int] | None):
        self.ledger.forget_attempts(stage, domain, None if blocks is None else np.array(blocks, np.int64))
        self.attempts = {
            k: a for k, a in self.attempts.items() if k[:2] != (stage, domain) or (blocks is not None and a.block not in blocks)
        }

    @rule()
    def crash(self):
        self.ledger = self.reopen()
        self.check()

    def teardown(self):
        self.check()

    def check(self):
        for stage, domain in DOMAINS:
            found = {page: set(np.flatnonzero(bits).tolist()) for page, bits in self.ledger.pages(stage, domain)}
            assert found == {k.page: d for k, d in self.done.items() if (k.stage, k.domain) == (stage, domain) and d}
            assert self.ledger.count(stage, domain) == sum(map(len, found.values()))
        order = sorted(self.attempts.values(), key=lambda a: (a.at_s, a.stage, a.domain, a.block, a.attempt))
        assert self.ledger.attempts() == order
        assert self.ledger.get("n") == self.values["n"]


def test_any_history_leaves_what_the_model_says(reopen: Reopen):
    limits = settings(max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(lambda: LedgerMachine(reopen), settings=limits)
