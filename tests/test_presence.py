"""A time without workers, on a clock of the test's own."""

import pytest

from blockwise.events import Events
from blockwise.presence import GIVEN_UP_S, MISSED_S, Absence


def asked(looks):
    """Levels of the messages and whether it gave up, after looks of (workers, seconds)."""
    events = []
    absence = Absence(Events(events.append))
    gave_up = [absence.gives_up(workers, at_s) for workers, at_s in looks]
    return [e.level for e in events], gave_up[-1]


@pytest.mark.parametrize(
    ("looks", "levels", "gave_up"),
    [
        ([(2, 0), (1, GIVEN_UP_S)], [], False),
        ([(0, 0), (0, MISSED_S - 1), (1, MISSED_S)], [], False),
        ([(0, 7), (0, 7 + MISSED_S), (0, 8 + MISSED_S)], ["warning"], False),
        ([(0, 7), (0, 7 + MISSED_S), (1, 8 + MISSED_S), (1, 9 + MISSED_S)], ["warning", "info"], False),
        ([(0, 0), (0, MISSED_S), (1, 100), (0, 101), (0, 100 + GIVEN_UP_S)], ["warning", "info", "warning"], False),
        ([(0, 0), (0, MISSED_S), (0, GIVEN_UP_S)], ["warning"], True),
    ],
)
def test_an_absence_is_told_once_and_ends_the_run_at_last(looks, levels, gave_up):
    assert asked(looks) == (levels, gave_up)


def test_workers_that_stand_in_a_queue_are_waited_for():
    events = []
    absence = Absence(Events(events.append))
    looks = [(0, ""), (MISSED_S, "2 jobs wait in the queue"), (9 * GIVEN_UP_S, "1 job waits in the queue"), (9 * GIVEN_UP_S + 60, "")]
    assert not any(absence.gives_up(0, at_s, waiting) for at_s, waiting in looks)
    assert [e.text for e in events] == [f"No worker is connected since {MISSED_S:.0f} s; 2 jobs wait in the queue."]
    assert absence.gives_up(0, 10 * GIVEN_UP_S, "")
