"""The light run with a driver that kills itself at a commit: `python -m tests.chaos.dying FOLDER before|after COMMIT`."""

import os
import signal
import sys
from pathlib import Path

from blockwise.ledger import Booking, SqliteLedger
from blockwise.testing import run_in
from tests.chaos.light import light

if __name__ == "__main__":
    folder, when, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    commit, seen = SqliteLedger.commit, []

    def dying(self: SqliteLedger, booking: Booking) -> None:
        """Commit, and die before or after it where it is the one."""
        seen.extend(booking.marks[:1])
        if when == "before" and len(seen) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, booking)
        if when == "after" and len(seen) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    SqliteLedger.commit = dying  # type: ignore[method-assign]
    sys.exit(run_in(folder / "run", light(folder), workers=2).exit_code)
