"""Two light stages without a barrier for the chaos tests, as a program of its own: `python -m tests.chaos.light_graph FOLDER`."""

import sys
from pathlib import Path

from blockwise.geometry import Domain
from blockwise.testing import run_in
from tests.two_stages import Reading, both

DOMAINS = (Domain("long", ("x",), (400,)), Domain("short", ("x",), (101,)))
PAUSE_S = 0.005


def light_graph(folder: Path) -> Reading:
    """501 blocks of 5 ms, and 251 that each read four of them."""
    for name in ("first", "second"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return both(folder, pause_s=PAUSE_S, domains=DOMAINS)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    sys.exit(run_in(where / "run", light_graph(where), workers=2, lease_s=0.3).exit_code)
