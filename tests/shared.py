"""Where tests find data that is shared between checkouts and not part of the repository."""

import os
from pathlib import Path

import pytest


def shared(name: str) -> Path:
    """A file or folder of the shared data, e.g. "golden/cascade/predict.npz"; skips the test where there is none.

    Looked for in $BLOCKWISE_SHARED if set, else in the folder `shared` beside the repository.
    """
    root = Path(os.environ.get("BLOCKWISE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    path = root / name
    if not path.exists():
        pytest.skip(f"shared data {name} is not at {root} (set BLOCKWISE_SHARED)")
    return path
