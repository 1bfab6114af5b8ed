"""What this driver has booked so far, summed per stage: bytes, seconds of each step, failed attempts, workers lost. A subscriber.

Sums begin at zero with every driver; what is done over all drivers is in the ledger. Written by the thread that emits events, read by
any other: each number is whole at any time.
"""

from blockwise.events import BlockFailed, BlocksDone, Event, WorkerLost
from blockwise.status import Spent


class Totals:
    """Sums over the events of one driver."""

    def __init__(self) -> None:
        self._spent: dict[str, Spent] = {}
        self.lost = 0
        """Leases that died with their worker."""

    def __call__(self, event: Event) -> None:
        match event:
            case BlocksDone():
                self._spent[event.stage] = self.of(event.stage) + Spent(event.nbytes, event.read_s, event.compute_s, event.write_s)
            case BlockFailed():
                self._spent[event.stage] = self.of(event.stage) + Spent(failed_attempts=1)
            case WorkerLost():
                self.lost += 1

    def of(self, stage: str) -> Spent:
        """The sums of one stage."""
        return self._spent.get(stage, Spent())
