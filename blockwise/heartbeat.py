"""Who drives a run, and whether that driver lives.

The row in the ledger excludes a second driver; its copy in status.json informs. A row that names this host and boot is judged by the
process itself, at once; one from another host by whether its counter moves within `SILENCE_S` of our own clock (clocks jump).
A crash leaves the row behind; whoever comes next removes it.
"""

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from blockwise.errors import LedgerError, RunActive, StorageError
from blockwise.folder import RunFolder
from blockwise.ledger import Driver, Ledger, open_ledger
from blockwise.status import Status

SILENCE_S: float = 10.0
"""A driver elsewhere whose counter stands still for so long is dead."""
LEAST_LOOKS: int = 10
"""Times that the counter is looked at before; a server of the ledger that was away for all of SILENCE_S says nothing of drivers."""
STATUS_S: float = 1.0
BEAT_EVERY: int = 2
"""Status writes per heartbeat row."""
BEAT_PATIENCE_S: float = 4.0
"""What a heartbeat row waits for a ledger that does not answer: the status is to be written on meanwhile."""


def this_driver() -> Driver:
    """This process, as a heartbeat row names it."""
    return Driver(uuid.uuid4().hex[:12], platform.node(), boot_id(), os.getpid(), start_of(os.getpid()), 0, time.time())


def start_of(pid: int) -> float:
    """When a process was started, in seconds: since the boot where the system tells (Linux), for a clock that jumps moves every date
    that psutil gives; since the epoch elsewhere.

    Raises
    ------
    psutil.NoSuchProcess
    """
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return psutil.Process(pid).create_time()


def boot_id() -> str:
    """Names this boot of this machine, so that a pid of before a reboot is not taken for a living one."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{psutil.boot_time():.0f}"


def is_local(driver: Driver) -> bool:
    """Whether a row names this host and this boot of it."""
    return driver.host == platform.node() and driver.boot_id == boot_id()


def process_lives(driver: Driver) -> bool:
    """Whether the process of a local row still runs: same pid, same start."""
    try:
        return abs(start_of(driver.pid) - driver.started_s) < 1.0 and psutil.Process(driver.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def drop_dead(ledger: Ledger, wait: Callable[[float], object] = time.sleep) -> list[Driver]:
    """Remove the rows of dead drivers and return the living; waits up to SILENCE_S only for rows of other hosts."""
    rows = ledger.drivers()
    for row in rows:
        if is_local(row) and not process_lives(row):
            ledger.leave(row.id)
    remote = {row.id: row.beat for row in rows if not is_local(row)}
    deadline_s, looks = time.monotonic() + SILENCE_S, 0
    while remote and (time.monotonic() < deadline_s or looks < LEAST_LOOKS):
        looks += 1
        wait(0.5)
        beats = {row.id: row.beat for row in ledger.drivers()}
        remote = {id: beat for id, beat in remote.items() if beats.get(id) == beat}
    for id in remote:
        ledger.leave(id)
    return ledger.drivers()


def refuse_second(folder: str, living: list[Driver]) -> None:
    """Raise RunActive naming the driver that has the run."""
    if living:
        d = living[0]
        raise RunActive(
            f"{folder} is being driven by process {d.pid} on {d.host}: wait for it, or stop it with Ctrl-C there (kill {d.pid}); "
            "`blockwise status` shows what it does"
        )


class Heartbeat:
    """Writes status.json every second and the heartbeat row every other, from a thread with a ledger connection of its own.

    Parameters
    ----------
    lost : called once when somebody removed the row: they held this driver for dead and have the run now, so it must stop.
    """

    def __init__(
        self, folder: RunFolder, ledger_url: str, driver: Driver, snapshot: Callable[[], Status], lost: Callable[[str], None]
    ) -> None:
        self._folder, self._url, self._driver, self._snapshot, self._lost = folder, ledger_url, driver, snapshot, lost
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="blockwise-heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)
        self.write()

    def write(self) -> None:
        """Write the present state now."""
        with suppress(StorageError):  # a full disk must not end the run; the next second tries again
            self._folder.write_status(replace(self._snapshot(), beat=self._driver.beat, at_s=time.time()))

    def _loop(self) -> None:
        ledger: Ledger | None = None
        while not self._over.wait(STATUS_S):
            self._driver = replace(self._driver, beat=self._driver.beat + 1, at_s=time.time())
            self.write()
            if self._driver.beat % BEAT_EVERY == 0:
                try:
                    ledger = ledger or open_ledger(self._url, self._folder.run, patience_s=BEAT_PATIENCE_S)
                    ledger.beat(self._driver)
                except RunActive as error:
                    self._lost(str(error))
                    break
                except LedgerError:  # busy or away for a moment: the next beat tries again
                    continue
        if ledger is not None:
            ledger.close()
