"""A time in which the server of the ledger does not answer: a person is told, the status says so, and a stop ends it.

The driver waits inside the call that nobody answers (`Ledger.waiting`); workers finish the leases they hold, and what they report waits in
the driver's inbox. Nothing is lost: a mark that was not acknowledged is sent again, and marks are idempotent.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass

from blockwise.errors import LedgerError
from blockwise.events import Events

PATIENCE_S: float = 600.0
"""What a run waits for the server of its ledger to come back; after that it ends, resumable."""


@dataclass(slots=True)
class Outage:
    """What the driver of a run does while its ledger is away.

    Parameters
    ----------
    url : the ledger's, without credentials.
    stopped : asked at every try, with the seconds waited; True ends the wait.
    """

    url: str
    events: Events
    stopped: Callable[[float], bool]
    message: str = ""
    """For the status, while it lasts."""

    def __call__(self, waited_s: float, why: str) -> None:
        """A try that failed, or, with no reason, the first that did not.

        Raises
        ------
        LedgerError : the run is to stop.
        """
        if not why:
            self.message = ""
            self.events.message(f"The ledger answers again after {waited_s:.0f} s: the run goes on.")
            return
        if self.stopped(waited_s):
            error = LedgerError(f"stopped while the ledger {self.url} did not answer: what it has acknowledged is kept; run again to go on")
            error.errno = errno.EHOSTUNREACH
            raise error
        if not self.message:
            self.events.message(
                f"The ledger {self.url} does not answer ({why}): the run is paused, and ends, resumable, after {PATIENCE_S:.0f} s.",
                "warning",
            )
        self.message = f"paused: the ledger has not answered for {waited_s:.0f} s"


def is_away(error: BaseException) -> bool:
    """Whether a ledger's server could not be reached, so that the same run may go on later."""
    return isinstance(error, LedgerError) and error.errno == errno.EHOSTUNREACH


def first_of(error: BaseException) -> BaseException:
    """The error with which an outage ended a run: whatever was tried while it closed failed too."""
    found, before = error, error.__context__
    while before is not None:
        found, before = before if is_away(before) else found, before.__context__
    return found
