"""Where a component's site is: its innermost voxel by default, found by an exact Euclidean distance transform in its box (spec 6.1).

The box is cut out of the volume and the boundaries in it are the faces between foreground and background voxels; the outer faces of the
box are none. A voxel's distance is the one from its centre to the centre of the nearest such face. Faces stand half-way between voxels,
on a grid of twice the resolution on which only every other place is asked for: lines along x, y and z are transformed one after the other,
and only those that hold faces or lead to voxels (Felzenszwalb and Huttenlocher 2012). Distances are compared as float32, ties fall to
the first voxel in raster order. A box without any boundary is full of its component; its last voxel is the site then, as in the original.
Memory is 16 bytes per voxel of the largest box.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from tasks.synful.labelling import Components, Floats, Ints, extents, frozen, in_units, mass_sums

LOCATIONS = ("edt", "edt_padded", "centroid", "peak")

Mask = npt.NDArray[np.bool_]


class Line(NamedTuple):
    """Room for one line of a transform: heights at its places, and the sites of their lower envelope with where each ends."""

    heights: Floats
    sites: Ints
    limits: Floats


def locate(
    volume: npt.NDArray[Any],
    threshold: float,
    components: Components,
    boxes: tuple[Ints, Ints],
    *,
    voxel_size: Sequence[float],
    kind: str = "edt",
) -> Ints:
    """One voxel per component.

    Parameters
    ----------
    volume, threshold : what the components were made of.
    components : n of them.
    boxes : begin and end (n, 3) of their boxes, voxels.
    voxel_size : z y x, nm; weighs the axes of distances.
    kind : "edt", as the module says.  "edt_padded", the same with one voxel of background around the box, so that its outer faces are
        boundaries.  "centroid", the component's voxel nearest to its centre of mass.  "peak", its voxel of the highest value. Ties fall
        to the first voxel in raster order.

    Returns
    -------
    (n, 3) int64, z y x, voxels of the volume, each inside its component.
    """
    spacing = np.asarray(voxel_size, np.float64)
    if kind == "peak":
        return _peaks(frozen(volume), components)
    if kind == "centroid":
        return _central(components, boxes[0], centres(components, boxes[0]), spacing)
    return _innermost(frozen(volume), in_units(volume, threshold), components, boxes, spacing, kind == "edt_padded")


def centres(components: Components, low: Ints) -> Floats:
    """Centres of mass relative to the boxes' begins, voxels, so that their rounding does not depend on where the volume begins."""
    voxels = extents(components)[3][:, None]
    return (mass_sums(components) - voxels * low) / voxels


@numba.njit(cache=True, nogil=True)
def _peaks(volume: npt.NDArray[Any], components: Components) -> Ints:
    _, offsets, row, begin, end = components
    height = volume.shape[1]
    found = np.empty((len(offsets) - 1, 3), np.int64)
    for c in range(len(found)):
        start = offsets[c]
        found[c, 0], found[c, 1], found[c, 2] = row[start] // height, row[start] % height, begin[start]
        best = volume[found[c, 0], found[c, 1], found[c, 2]]
        for run in range(offsets[c], offsets[c + 1]):
            z, y = row[run] // height, row[run] % height
            for x in range(begin[run], end[run]):
                if volume[z, y, x] > best:
                    best = volume[z, y, x]
                    found[c, 0], found[c, 1], found[c, 2] = z, y, x
    return found


@numba.njit(cache=True, nogil=True)
def _central(components: Components, low: Ints, middle: Floats, spacing: Floats) -> Ints:
    """The voxel of each component that is nearest to a point of its box; of voxels as near, as float32, the first."""
    _, offsets, row, begin, end = components
    height = components.shape[1]
    found = np.empty((len(offsets) - 1, 3), np.int64)
    for c in range(len(found)):
        best = np.float32(np.inf)
        for run in range(offsets[c], offsets[c + 1]):
            z, y = row[run] // height, row[run] % height
            across = ((z - low[c, 0] - middle[c, 0]) * spacing[0]) ** 2 + ((y - low[c, 1] - middle[c, 1]) * spacing[1]) ** 2
            for x in range(begin[run], end[run]):
                distance = np.float32(np.sqrt(across + ((x - low[c, 2] - middle[c, 2]) * spacing[2]) ** 2))
                if distance < best:
                    best = distance
                    found[c, 0], found[c, 1], found[c, 2] = z, y, x
    return found


@numba.njit(cache=True, nogil=True)
def _innermost(
    volume: npt.NDArray[Any], threshold: Any, components: Components, boxes: tuple[Ints, Ints], spacing: Floats, padded: bool
) -> Ints:
    low, high = boxes
    found = high - 1
    steps = (spacing / 2) ** 2
    for c in range(len(found)):
        inside = _cut(volume, threshold, low[c], high[c], int(padded))
        if not inside.all():
            distances = _transformed(inside, steps)
            _deepest(found[c], components, c, low[c] - int(padded), distances)
    return found


@numba.njit(cache=True, nogil=True)
def _cut(volume: npt.NDArray[Any], threshold: Any, low: Ints, high: Ints, margin: int) -> Mask:
    """Foreground of a box, all of it, so that boundaries of other components in the box count too, and background around it."""
    depth, height, width = high - low + 2 * margin
    inside = np.zeros((depth, height, width), np.bool_)
    for z in range(margin, depth - margin):
        for y in range(margin, height - margin):
            source, target = volume[z + low[0] - margin, y + low[1] - margin], inside[z, y]
            for x in range(margin, width - margin):
                target[x] = source[x + low[2] - margin] > threshold
    return inside


@numba.njit(cache=True, nogil=True)
def _deepest(found: Ints, components: Components, c: int, origin: Ints, distances: Floats) -> None:
    """The voxel of component c that has the largest squared distance, into `found`."""
    _, offsets, row, begin, end = components
    height = components.shape[1]
    best = np.float32(-1)
    for run in range(offsets[c], offsets[c + 1]):
        z, y = row[run] // height, row[run] % height
        for x in range(begin[run], end[run]):
            distance = np.float32(np.sqrt(distances[z - origin[0], y - origin[1], x - origin[2]]))
            if distance > best:
                best = distance
                found[0], found[1], found[2] = z, y, x


@numba.njit(cache=True, nogil=True)
def _transformed(inside: Mask, steps: Floats) -> Floats:
    """Squared distance of every voxel's centre to the nearest face; steps are the squares of half the voxel size."""
    depth, height, width = inside.shape
    length = 2 * max(depth, height, width)
    line = Line(np.empty(length), np.empty(length, np.int64), np.empty(length))
    even, odd = _planes(inside, steps, line)
    for y in range(height):
        for x in range(width):
            for z in range(depth):
                line.heights[2 * z], line.heights[2 * z + 1] = even[z, y, x], odd[z, y, x]
            _lowest(line, 2 * depth - 1, steps[0], even[:, y, x])
    return even


@numba.njit(cache=True, nogil=True)
def _planes(inside: Mask, steps: Floats, line: Line) -> tuple[Floats, Floats]:
    """Squared distances within planes: even[z] in that of the voxels z, odd[z] in that of the faces between z and z + 1."""
    depth, height, width = inside.shape
    even, odd = np.empty((depth, height, width)), np.empty((depth, height, width))
    rows = np.empty((2 * height - 1, width))
    for z in range(depth):
        for y in range(height):
            _to_faces(inside[z, y, :-1], inside[z, y, 1:], 1, rows[2 * y], line, steps[2])
            if y + 1 < height:
                _to_faces(inside[z, y], inside[z, y + 1], 0, rows[2 * y + 1], line, steps[2])
        _along_y(rows, even[z], line, steps[1])
        if z + 1 < depth:
            rows[1::2] = np.inf
            for y in range(height):
                _to_faces(inside[z, y], inside[z + 1, y], 0, rows[2 * y], line, steps[2])
            _along_y(rows, odd[z], line, steps[1])
    return even, odd


@numba.njit(cache=True, nogil=True)
def _to_faces(row: Mask, other: Mask, first: int, out: Floats, line: Line, step: float) -> None:
    """Distances along a line to the faces on it: between voxels of one row (first place 1) or between those of two rows (0)."""
    length = 2 * len(out) - 1
    line.heights[:length] = np.inf
    for x in range(len(row)):
        if row[x] != other[x]:
            line.heights[2 * x + first] = 0
    _lowest(line, length, step, out)


@numba.njit(cache=True, nogil=True)
def _along_y(rows: Floats, out: Floats, line: Line, step: float) -> None:
    length, width = rows.shape
    for x in range(width):
        for y in range(length):
            line.heights[y] = rows[y, x]
        _lowest(line, length, step, out[:, x])


@numba.njit(cache=True, nogil=True)
def _lowest(line: Line, length: int, step: float, out: Floats) -> None:
    """out[i] = min over j < length of heights[j] + step * (2 i - j)^2: the lower envelope of parabolas, at every other place."""
    heights, sites, limits = line
    n = 0
    for j in range(length):
        if heights[j] == np.inf:
            continue
        while n > 0:
            k = sites[n - 1]
            limits[n - 1] = ((heights[j] - heights[k]) / step + j * j - k * k) / (2 * (j - k))
            if n == 1 or limits[n - 1] > limits[n - 2]:
                break
            n -= 1
        sites[n] = j
        n += 1
    if n == 0:
        out[:] = np.inf
        return
    k = 0
    for i in range(len(out)):
        while k < n - 1 and limits[k] < 2 * i:
            k += 1
        out[i] = heights[sites[k]] + step * (2 * i - sites[k]) ** 2
