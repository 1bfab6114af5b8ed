"""Whether somebody has the live page open, so that a run that ends can wait until they have seen how. From any thread."""

import threading
import time
from math import inf

from blockwise.events import State

WATCHED_S: float = 3.0
"""The page asks every second; who has not asked for so long has gone."""
FAREWELL_S: float = 2.5
"""What an end waits at most to be seen."""


class Audience:
    """Who watches one run."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_s, self._state = -inf, ""

    def saw(self, state: State) -> None:
        """A page was answered with this state."""
        with self._changed:
            self._at_s, self._state = time.monotonic(), state
            self._changed.notify_all()

    def see_off(self, state: State) -> bool:
        """Wait until a page that is open was answered with the last state; whether one was. Returns at once where none is open."""
        with self._changed:
            if time.monotonic() - self._at_s > WATCHED_S:
                return False
            return self._changed.wait_for(lambda: self._state == state, FAREWELL_S)
