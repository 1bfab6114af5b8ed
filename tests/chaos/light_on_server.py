"""The light run with its ledger on a server, as a program: `python -m tests.chaos.light_on_server FOLDER URL PATIENCE_S`."""

import sys
from pathlib import Path

import blockwise.outage
from blockwise.testing import run_in
from tests.chaos.light import light

if __name__ == "__main__":
    where, url, patience_s = sys.argv[1:]
    blockwise.outage.PATIENCE_S = float(patience_s)  # before blockwise.run reads it
    sys.exit(run_in(Path(where) / "run", light(Path(where)), workers=2, ledger=url).exit_code)
