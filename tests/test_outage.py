"""What a run says and does while nobody answers for its ledger."""

import pytest

from blockwise.errors import LedgerError
from blockwise.events import Events, Message
from blockwise.outage import Outage, first_of, is_away


@pytest.fixture
def said():
    return []


def outage(said, *, stopped=False):
    return Outage("mongodb://h/db", Events(said.append), lambda waited_s: stopped)


def test_one_message_when_it_begins_and_one_when_it_is_over(said):
    away = outage(said)
    for waited_s in (0.0, 1.0, 12.0):
        away(waited_s, "connection refused")
    assert away.message == "paused: the ledger has not answered for 12 s"
    away(13.0, "")
    assert away.message == ""
    assert [(type(m), m.level) for m in said] == [(Message, "warning"), (Message, "info")]
    assert "mongodb://h/db does not answer (connection refused): the run is paused" in said[0].text
    assert "after 13 s" in said[1].text


def test_a_person_who_stops_the_run_ends_the_wait(said):
    with pytest.raises(LedgerError, match="run again to go on") as caught:
        outage(said, stopped=True)(3.0, "connection refused")
    assert is_away(caught.value)


@pytest.mark.parametrize("error", [LedgerError("broken"), OSError(113, "No route to host"), ValueError()])
def test_other_errors_are_no_outage(error):
    assert not is_away(error)


def closes_badly(away, other):
    """A run that ends in an outage, and whose end meets it again behind an error of the client."""
    try:
        away(3.0, "first")
    finally:
        try:
            raise OSError("of the client")
        except OSError:
            other(0.0, "second")


def test_the_first_of_several_failures_is_told(said):
    with pytest.raises(LedgerError, match="second") as caught:
        closes_badly(outage(said, stopped=True), Outage("second", Events(), lambda waited_s: True))
    assert "mongodb://h/db" in str(first_of(caught.value))
