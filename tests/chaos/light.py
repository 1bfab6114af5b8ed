"""A light run for the chaos tests, as a program of its own: `python -m tests.chaos.light FOLDER`; exits as `blockwise run` does."""

import sys
from pathlib import Path

from blockwise.geometry import Domain
from blockwise.grid import GridSpec
from blockwise.testing import Faulty, MapTask, run_in

BLOCKS = 600
PAUSE_S = 0.005


def light(folder: Path, pause_s: float = PAUSE_S) -> MapTask:
    """Two domains of blocks that take 5 ms each, or `pause_s`, and count how often they were computed."""
    (folder / "count").mkdir(parents=True, exist_ok=True)
    domains = [Domain("long", ("x",), (BLOCKS - 100,)), Domain("short", ("x",), (100,))]
    return MapTask(str(folder / "out.zarr"), domains, GridSpec((1,)), Faulty({}, str(folder / "count"), pause_s=pause_s))


if __name__ == "__main__":
    where = Path(sys.argv[1])
    sys.exit(run_in(where / "run", light(where), workers=2).exit_code)
