"""Volumes seen through a field of source positions: the compiled loops of augment_elastic.py. Import where it is used."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt


@numba.njit(cache=True, nogil=True)
def warp_linear(values: npt.NDArray[Any], sources: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    """Fill `out` (z, y, x) with the values at `sources` (3, z, y, x), voxels of `values`; beyond its edges those of the edge."""
    last = values.shape[0] - 1, values.shape[1] - 1, values.shape[2] - 1
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                z = min(max(sources[0, k, j, i], np.float32(0)), np.float32(last[0]))
                y = min(max(sources[1, k, j, i], np.float32(0)), np.float32(last[1]))
                x = min(max(sources[2, k, j, i], np.float32(0)), np.float32(last[2]))
                z0, y0, x0 = int(z), int(y), int(x)
                y1, x1 = min(y0 + 1, last[1]), min(x0 + 1, last[2])
                fz, fy, fx = z - z0, y - y0, x - x0
                found = (values[z0, y0, x0] * (1 - fx) + values[z0, y0, x1] * fx) * (1 - fy)
                found += (values[z0, y1, x0] * (1 - fx) + values[z0, y1, x1] * fx) * fy
                if fz > 0:
                    z1 = min(z0 + 1, last[0])
                    below = (values[z1, y0, x0] * (1 - fx) + values[z1, y0, x1] * fx) * (1 - fy)
                    below += (values[z1, y1, x0] * (1 - fx) + values[z1, y1, x1] * fx) * fy
                    found = found * (1 - fz) + below * fz
                out[k, j, i] = found


@numba.njit(cache=True, nogil=True)
def warp_nearest(values: npt.NDArray[Any], sources: npt.NDArray[np.float32], out: npt.NDArray[Any]) -> None:
    """The same with the nearest value, and 0 beyond the edges."""
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                z = int(np.floor(sources[0, k, j, i] + np.float32(0.5)))
                y = int(np.floor(sources[1, k, j, i] + np.float32(0.5)))
                x = int(np.floor(sources[2, k, j, i] + np.float32(0.5)))
                inside = 0 <= z < values.shape[0] and 0 <= y < values.shape[1] and 0 <= x < values.shape[2]
                out[k, j, i] = values[z, y, x] if inside else 0
