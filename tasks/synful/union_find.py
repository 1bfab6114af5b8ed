"""Union-find over numbered things, for compiled code: each has a parent, and the root of its tree names its set."""

from typing import Any

import numba
import numpy.typing as npt


@numba.njit(cache=True, nogil=True)
def root_of(parents: npt.NDArray[Any], i: int) -> int:
    """The root of a tree; halves the way there for whoever comes next."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i
