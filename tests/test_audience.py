"""Who watches a run, and how long its end waits for them."""

import threading
import time

import pytest

from blockwise import audience
from blockwise.audience import Audience


def test_without_a_page_the_end_waits_for_nobody():
    began = time.monotonic()
    assert not Audience().see_off("done")
    assert time.monotonic() - began < audience.FAREWELL_S / 2


def test_a_page_that_was_closed_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(audience, "WATCHED_S", 0.0)
    watched = Audience()
    watched.saw("running")
    assert not watched.see_off("done")


def test_the_end_waits_until_it_was_seen():
    watched = Audience()
    watched.saw("running")
    asked = threading.Timer(0.1, watched.saw, ["done"])
    asked.start()
    assert watched.see_off("done")
    asked.join()


@pytest.mark.parametrize("state", ["running", "interrupted"])
def test_a_page_that_never_asks_again_costs_little(monkeypatch, state):
    monkeypatch.setattr(audience, "FAREWELL_S", 0.05)
    watched = Audience()
    watched.saw(state)
    assert not watched.see_off("done")
