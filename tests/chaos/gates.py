"""Points inside a worker at which it waits until the test has looked: each is a file that names the process, so that a kill hits exactly.

A gate holds once: what is computed again after the kill passes.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockwise.grid import Block
from blockwise.storage import Write
from blockwise.testing import MapTask

HELD_S: float = 60.0
"""A gate that nobody opens ends its block, so that a test that fails does not hang."""
LOOK_S: float = 0.01


@dataclass(frozen=True)
class Gate:
    """Holds the first process that comes by, until it is killed or let through."""

    folder: Path
    name: str

    @property
    def reached(self) -> Path:
        return self.folder / f"{self.name}.reached"

    def pass_by(self) -> None:
        """Wait here, the first time; what a worker does."""
        with suppress(FileExistsError):
            partial = self.folder / f"{self.name}.{os.getpid()}"
            partial.write_text(str(os.getpid()))
            os.link(partial, self.reached)  # whole or not there
            wait_for((self.folder / f"{self.name}.open").exists, HELD_S)

    def open(self) -> None:
        """Let the one that waits go on; what the test does."""
        (self.folder / f"{self.name}.open").touch()

    def wait(self) -> int:
        """The process that has come here; what the test does."""
        wait_for(self.reached.exists, HELD_S)
        return int(self.reached.read_text())


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look until it is so.

    Raises
    ------
    TimeoutError
    """
    end_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"not so after {seconds:g} s: {condition}")
        time.sleep(LOOK_S)


class Held:
    """A durable write whose block is told to be durable only when a gate lets it."""

    def __init__(self, future: Any, gate: Gate) -> None:
        self.future, self.gate = future, gate

    def done(self) -> bool:
        return bool(self.future.done())

    def result(self) -> Any:
        found = self.future.result()
        self.gate.pass_by()
        return found


class GatedTask(MapTask):
    """Fills its output like any `MapTask`; the steps of one block pass a gate: "read", "compute" and "durable" (renamed, not told)."""

    def __init__(self, path: str, domains: Any, spec: Any, function: Any = None, *, block: int, point: str, gates: Path) -> None:
        super().__init__(path, domains, spec, function)
        self.block, self.point, self.gate = block, point, Gate(gates, point)

    def _pass(self, point: str, block: int) -> None:
        if (point, block) == (self.point, self.block):
            self.gate.pass_by()

    def read(self, block: Block) -> Block:
        self._pass("read", block.id)
        return block

    def compute(self, inputs: Block, state: None) -> Any:
        self._pass("compute", inputs.id)
        return super().compute(inputs, state)

    def write(self, block: Block, result: Any) -> Sequence[Write]:
        (write,) = super().write(block, result)
        held = (self.point, self.block) == ("durable", block.id)
        return [Write(write.data, Held(write.future, self.gate))] if held else [write]
