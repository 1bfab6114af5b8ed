"""A driver for the tests to kill: books blocks one after the other and prints each number once it is acknowledged."""

import sys

import numpy as np

from blockwise.ledger import Attempt, Booking, Marks, PageKey, open_ledger

ledger = open_ledger(sys.argv[1], run="run-1")
start = int(sys.argv[2])
for n in range(start, start + 100_000):
    key = PageKey("s", "d", n // 16_384)
    failed = Attempt("s", "d", n, 1, "transient", "w", "", "", float(n))
    ledger.commit(Booking((Marks(key, np.array([n % 16_384]), np.array([n], np.uint32)),), (failed,), {"next": n + 1}))
    sys.stdout.write(f"{n}\n")
    sys.stdout.flush()
