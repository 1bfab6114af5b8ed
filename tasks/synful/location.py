"""Where a component's site is: its innermost voxel by default, found by an exact Euclidean distance transform in its box (spec 6.1).

The box is cut out of the volume and the boundaries in it are the faces between foreground and background voxels; the outer faces of the
box are none. A voxel's distance is the one from its centre to the centre of the nearest such face. Faces stand half-way between voxels,
on a grid of twice the resolution on which only every other place is asked for: lines along x, y and z are transformed one after the other,
and only those that hold faces or lead to voxels (Felzenszwalb and Huttenlocher 2012). Distances are compared as float32, ties fall to
the first voxel in raster order. A box without any boundary is full of its component; its last voxel is the site then, as in the original.
"""

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

from tasks.synful.labelling import Components, Floats, Indices, Ints, extents, frozen, in_units, mass_sums

LOCATIONS = ("edt", "edt_padded", "centroid", "peak")

Mask = npt.NDArray[np.bool_]


def locate(
    volume: npt.NDArray,
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
    c = components
    runs = c.offsets, c.row, c.begin, c.end
    spacing = np.asarray(voxel_size, np.float64)
    if kind == "peak":
        return _peaks(frozen(volume), *runs)
    if kind == "centroid":
        return _central(*runs, boxes[0], centres(c, boxes[0]), spacing, c.shape[1])
    return _innermost(frozen(volume), in_units(volume, threshold), *runs, *boxes, spacing, kind == "edt_padded")


def centres(components: Components, low: Ints) -> Floats:
    """Centres of mass relative to the boxes' begins, voxels, so that their rounding does not depend on where the volume begins."""
    voxels = extents(components)[3][:, None]
    return (mass_sums(components) - voxels * low) / voxels


@numba.njit(cache=True, nogil=True)
def _peaks(volume: npt.NDArray, offsets: Ints, row: Indices, begin: Indices, end: Indices) -> Ints:
    found = np.empty((len(offsets) - 1, 3), np.int64)
    height = volume.shape[1]
    for c in range(len(found)):
        z, y, x = row[offsets[c]] // height, row[offsets[c]] % height, begin[offsets[c]]
        for run in range(offsets[c], offsets[c + 1]):
            v, w = row[run] // height, row[run] % height
            for u in range(begin[run], end[run]):
                if volume[v, w, u] > volume[z, y, x]:
                    z, y, x = v, w, u
        found[c, 0], found[c, 1], found[c, 2] = z, y, x
    return found


@numba.njit(cache=True, nogil=True)
def _central(offsets: Ints, row: Indices, begin: Indices, end: Indices, low: Ints, centres: Floats, spacing: Floats, height: int) -> Ints:
    """The voxel of each component that is nearest to its centre, which is relative to its box."""
    found = np.empty((len(offsets) - 1, 3), np.int64)
    for c in range(len(found)):
        runs = slice(offsets[c], offsets[c + 1])
        _nearest(found[c], row[runs], begin[runs], end[runs], low[c], centres[c], spacing, height)
    return found


@numba.njit(cache=True, nogil=True)
def _nearest(found: Ints, row: Indices, begin: Indices, end: Indices, low: Ints, centre: Floats, spacing: Floats, height: int) -> None:
    """The voxel nearest to a point, into `found`; of voxels as near, as float32, the first."""
    best = np.inf
    for r, b, e in zip(row, begin, end):  # noqa: B905 (numba has no strict)
        z, y = r // height, r % height
        across = ((z - low[0] - centre[0]) * spacing[0]) ** 2 + ((y - low[1] - centre[1]) * spacing[1]) ** 2
        for x in range(b, e):
            distance = np.float32(np.sqrt(across + ((x - low[2] - centre[2]) * spacing[2]) ** 2))
            if distance < best:
                best = distance
                found[0], found[1], found[2] = z, y, x


@numba.njit(cache=True, nogil=True)
def _innermost(
    volume: npt.NDArray,
    threshold: float,
    offsets: Ints,
    row: Indices,
    begin: Indices,
    end: Indices,
    low: Ints,
    high: Ints,
    spacing: Floats,
    padded: bool,
) -> Ints:
    found = high - 1
    height, margin = volume.shape[1], int(padded)
    for c in range(len(found)):
        runs = slice(offsets[c], offsets[c + 1])
        size = high[c] - low[c]
        if not padded and np.sum(end[runs] - begin[runs]) == size[0] * size[1] * size[2]:
            continue
        inside = np.zeros((size[0] + 2 * margin, size[1] + 2 * margin, size[2] + 2 * margin), np.bool_)
        _cut(volume, threshold, low[c], high[c], margin, inside)
        origin = low[c] - margin
        even, odd = _planes(inside, (spacing / 2) ** 2)
        _deepest(found[c], row[runs], begin[runs], end[runs], origin, even, odd, (spacing[0] / 2) ** 2, height)
    return found


@numba.njit(cache=True, nogil=True)
def _cut(volume: npt.NDArray, threshold: float, low: Ints, high: Ints, margin: int, inside: Mask) -> None:
    """Foreground of a box, all of it: boundaries of other components in the box count as well."""
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            source, target = volume[z, y], inside[z - low[0] + margin, y - low[1] + margin]
            for x in range(low[2], high[2]):
                target[x - low[2] + margin] = source[x] > threshold


@numba.njit(cache=True, nogil=True)
def _planes(inside: Mask, steps: Floats) -> tuple[Floats, Floats]:
    """Squared distances within planes: even[z] in that of the voxels z, odd[z] in that of the faces between z and z + 1."""
    depth, height, width = inside.shape
    even, odd = np.empty((depth, height, width)), np.empty((depth, height, width))
    rows = np.empty((2 * height - 1, width))
    heights, sites, limits = _line(2 * max(depth, height, width))
    for z in range(depth):
        for y in range(height):
            _along_x(inside[z, y], rows[2 * y], heights, sites, limits, steps[2])
            if y + 1 < height:
                _between(inside[z, y], inside[z, y + 1], rows[2 * y + 1], heights, sites, limits, steps[2])
        _along_y(rows, even[z], heights, sites, limits, steps[1])
        if z + 1 < depth:
            rows[1::2] = np.inf
            for y in range(height):
                _between(inside[z, y], inside[z + 1, y], rows[2 * y], heights, sites, limits, steps[2])
            _along_y(rows, odd[z], heights, sites, limits, steps[1])
    return even, odd


@numba.njit(cache=True, nogil=True)
def _line(length: int) -> tuple[Floats, Ints, Floats]:
    """Room for one line: heights, and the sites of its lower envelope with where each ends."""
    return np.empty(length), np.empty(length, np.int64), np.empty(length)


@numba.njit(cache=True, nogil=True)
def _along_x(row: Mask, out: Floats, heights: Floats, sites: Ints, limits: Floats, step: float) -> None:
    """Distances along one row to its own faces."""
    n = len(row)
    for x in range(n - 1):
        heights[2 * x] = np.inf
        heights[2 * x + 1] = 0.0 if row[x] != row[x + 1] else np.inf
    heights[2 * n - 2] = np.inf
    _lowest(heights, 2 * n - 1, step, out, sites, limits)


@numba.njit(cache=True, nogil=True)
def _between(row: Mask, other: Mask, out: Floats, heights: Floats, sites: Ints, limits: Floats, step: float) -> None:
    """Distances along the line between two rows to the faces between them."""
    n = len(row)
    for x in range(n - 1):
        heights[2 * x] = 0.0 if row[x] != other[x] else np.inf
        heights[2 * x + 1] = np.inf
    heights[2 * n - 2] = 0.0 if row[n - 1] != other[n - 1] else np.inf
    _lowest(heights, 2 * n - 1, step, out, sites, limits)


@numba.njit(cache=True, nogil=True)
def _along_y(rows: Floats, out: Floats, heights: Floats, sites: Ints, limits: Floats, step: float) -> None:
    length, width = rows.shape
    for x in range(width):
        for y in range(length):
            heights[y] = rows[y, x]
        _lowest(heights, length, step, out[:, x], sites, limits)


@numba.njit(cache=True, nogil=True)
def _deepest(
    found: Ints, row: Indices, begin: Indices, end: Indices, origin: Ints, even: Floats, odd: Floats, step: float, height: int
) -> None:
    """Transform the columns along z, then take the component's voxel of the largest distance."""
    depth = len(even)
    heights, sites, limits = _line(2 * depth)
    for y in range(even.shape[1]):
        for x in range(even.shape[2]):
            for z in range(depth):
                heights[2 * z], heights[2 * z + 1] = even[z, y, x], odd[z, y, x]
            _lowest(heights, 2 * depth - 1, step, even[:, y, x], sites, limits)
    best = np.float32(-1)
    for r, b, e in zip(row, begin, end):  # noqa: B905 (numba has no strict)
        z, y = r // height, r % height
        for x in range(b, e):
            distance = np.float32(np.sqrt(even[z - origin[0], y - origin[1], x - origin[2]]))
            if distance > best:
                best = distance
                found[0], found[1], found[2] = z, y, x


@numba.njit(cache=True, nogil=True)
def _lowest(heights: Floats, length: int, step: float, out: Floats, sites: Ints, limits: Floats) -> None:
    """out[i] = min over j < length of heights[j] + step * (2 i - j)^2: the lower envelope of parabolas, at every other place."""
    n = 0
    for j in range(length):
        if heights[j] == np.inf:
            continue
        while n > 0:
            k = sites[n - 1]
            meet = ((heights[j] - heights[k]) / step + j * j - k * k) / (2 * (j - k))
            if n == 1 or meet > limits[n - 2]:
                limits[n - 1] = meet
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
