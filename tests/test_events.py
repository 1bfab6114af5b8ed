"""What subscribers get: every event in order, without secrets, and none of it twice."""

import pytest

from blockwise.events import BlockFailed, BlocksDone, Event, Events, Message, WorkerLost

URL = "https://anna:hunter22@h/x"
FAILED = {"stage": "s", "domain": "d", "block": 1, "attempt": 1, "kind": "poison", "worker": "w", "final": True}


@pytest.mark.parametrize(
    "event",
    [
        Message(text=f"cannot open {URL}"),
        WorkerLost(worker="w", suspects=1, reason=f"while reading {URL}"),
        BlockFailed(**FAILED, error=URL, traceback="none"),
        BlockFailed(**FAILED, error="none", traceback=f"File\n  open({URL!r})"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_no_subscriber_sees_a_secret(event):
    seen: list[Event] = []
    Events(seen.append).emit(event)
    assert "hunter22" not in repr(seen)
    assert "https://***@h/x" in repr(seen)
    assert seen[0].at_s == event.at_s


def test_an_event_without_secrets_is_passed_on_as_it_is():
    seen: list[Event] = []
    event = BlocksDone(stage="s", worker="w", count=1, nbytes=1, read_s=0.1, compute_s=0.1, write_s=0.1)
    Events(seen.append).emit(event)
    assert seen[0] is event


def test_a_subscriber_that_raises_is_dropped_and_named_without_secrets():
    def broken(event: Event) -> None:
        raise ValueError(URL)

    seen: list[Event] = []
    events = Events(seen.append, broken)
    events.message("one")
    events.message("two")
    assert [type(e) for e in seen] == [Message, Message, Message]
    assert "failed and was dropped: ValueError('https://***@h/x')" in seen[1].text
