"""Compiled: what lies on the straight line of voxels between two sites."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@numba.njit(cache=True, nogil=True)
def line_voxels(begin: Ints, end: Ints) -> Ints:
    """The voxels of a line, both ends included: one per step along its longest axis, the others at the nearest voxel, halves upwards.

    Parameters
    ----------
    begin, end : (3,) voxels.

    Returns
    -------
    (n, 3) int64.
    """
    way = end - begin
    steps = np.abs(way).max()
    found = np.empty((steps + 1, 3), np.int64)
    for i in range(steps + 1):
        for axis in range(3):
            found[i, axis] = begin[axis] + (2 * i * way[axis] + steps) // max(1, 2 * steps)
    return found


@numba.njit(cache=True, nogil=True)
def labels_on_lines(
    begins: Ints, ends: Ints, labels: npt.NDArray[np.uint32], values: npt.NDArray[Any]
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """For every line the label other than 0 of most of its voxels (the smallest of several, 0 if none), and its largest value.

    Parameters
    ----------
    begins, ends : (n, 3) voxels inside the volume.  labels, values : (z, y, x).
    """
    label, value = np.zeros(len(begins), np.int64), np.zeros(len(begins))
    for row in range(len(begins)):
        line = line_voxels(begins[row], ends[row])
        met = np.empty(len(line), np.int64)
        top = float(values[line[0, 0], line[0, 1], line[0, 2]])
        for i in range(len(line)):
            z, y, x = line[i]
            met[i] = labels[z, y, x]
            top = max(top, float(values[z, y, x]))
        label[row], value[row] = _majority(met), top
    return label, value


@numba.njit(cache=True, nogil=True)
def _majority(met: Ints) -> int:
    met.sort()
    best, most, run = 0, 0, 0
    for i in range(len(met)):
        run = run + 1 if i > 0 and met[i] == met[i - 1] else 1
        if met[i] > 0 and run > most:
            best, most = met[i], run
    return best
