"""Waiting for what a test expects, instead of for a time."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Return once the condition holds; fail when it does not within so many seconds."""
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s, f"not within {seconds:g} s"
        time.sleep(0.02)
