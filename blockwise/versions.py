"""Keeps workers on another version of blockwise out of a run: they would read its leases and write its blocks by other rules.

Those that are there when a stage begins refuse it, before the first lease is out. One that comes later is sent away before it gets a
lease. What is asked crosses as code, not as a name in a module, so that it means the same on every version.
"""

from typing import Any

from blockwise._version import __version__
from blockwise.errors import BlockwiseError

GOODBYE_S: float = 1.0
"""What a worker that is sent away has to end its start, and to say why it leaves."""


def check_versions(client: Any) -> None:
    """Refuse workers on another version.

    Raises
    ------
    BlockwiseError : names the first of them with both versions.
    """
    found = client.run(_asking(), on_error="ignore")
    others = {worker: there for worker, there in found.items() if there != __version__}
    if others:
        worker, there = next(iter(others.items()))
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise BlockwiseError(
            f"worker {worker}{more} has {_named(there)}, this driver blockwise {__version__}: install the same version on both, restart "
            "the workers and run again; no lease was given out"
        )


def guard(client: Any, key: str) -> None:
    """Send workers on another version away from now on, telling the topic `key`, until the plugin `guard_name(key)` is taken back."""
    client.register_plugin(_doorkeeper(key), name=guard_name(key))


def guard_name(key: str) -> str:
    """Name of the plugin that guards the stage of a key."""
    return f"{key}-version"


def _named(version: str) -> str:
    return f"blockwise {version}" if version else "no blockwise that can be imported"


def _asking() -> Any:
    """A function that tells the version of the process it runs in, "" where there is none; nested, so that it crosses by value."""

    def version() -> str:
        try:
            from blockwise._version import __version__ as here
        except ImportError:
            return ""
        return here

    return version


def _doorkeeper(key: str) -> Any:
    """A plugin whose workers close themselves if their version is not this one; nested like `_asking`."""
    from distributed.core import Status
    from distributed.diagnostics.plugin import WorkerPlugin

    asked, wanted, goodbye_s = _asking(), __version__, GOODBYE_S

    class Doorkeeper(WorkerPlugin):
        name = guard_name(key)

        def setup(self, worker: Any) -> None:
            there = asked()
            if there != wanted:
                why = f"it has blockwise {there or 'not'}, the driver has {wanted}"
                worker.log_event(key, {"worker": worker.address, "leaving": why})
                worker.status = Status.closing_gracefully  # it executes nothing from here on
                worker.loop.call_later(goodbye_s, lambda: worker.close(reason=why))

    return Doorkeeper()
