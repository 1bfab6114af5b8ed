"""Balls stamped into volumes: the compiled inner loops of targets.py. Numba is imported with this module, so import it where it is used.

A ball is visited inside its own bounding box only, so its cost does not depend on the volume it lies in.
"""

import numba
import numpy as np
import numpy.typing as npt

NOBODY = -1
SHARED = -2


@numba.njit(cache=True, nogil=True)
def stamp_owners(
    owner: npt.NDArray[np.int32],
    centres: npt.NDArray[np.int64],
    squares: npt.NDArray[np.float64],
    radius: float,
    labels: npt.NDArray[np.uint64],
) -> None:
    """Write each ball's number into the voxels it alone covers, `SHARED` where several do.

    Parameters
    ----------
    owner : (z, y, x), filled with `NOBODY`.
    centres : (n, 3) voxels of `owner`, inside it or not.
    squares : (3,) squared voxel size, nm^2.
    radius : nm; a voxel at exactly the radius belongs to the ball.
    labels : (z, y, x) like `owner`: a ball ends where the label of its centre does. Empty: balls are whole.
    """
    bounded = labels.size > 0
    reach = np.empty(3, np.int64)
    for axis in range(3):
        reach[axis] = int(np.floor(radius / np.sqrt(squares[axis])))
    for ball in range(len(centres)):
        z0, y0, x0 = centres[ball]
        label = labels[z0, y0, x0] if bounded else np.uint64(0)
        for z in range(max(0, z0 - reach[0]), min(owner.shape[0], z0 + reach[0] + 1)):
            for y in range(max(0, y0 - reach[1]), min(owner.shape[1], y0 + reach[1] + 1)):
                rest = radius * radius - (z - z0) ** 2 * squares[0] - (y - y0) ** 2 * squares[1]
                if rest < 0:
                    continue
                half = int(np.floor(np.sqrt(rest / squares[2]) + 1e-9))
                for x in range(max(0, x0 - half), min(owner.shape[2], x0 + half + 1)):
                    if not bounded or labels[z, y, x] == label:
                        owner[z, y, x] = ball if owner[z, y, x] == NOBODY else SHARED


@numba.njit(cache=True, nogil=True)
def share_out(
    owner: npt.NDArray[np.int32], boxes: npt.NDArray[np.int64], centres: npt.NDArray[np.int64], squares: npt.NDArray[np.float64]
) -> None:
    """Give every `SHARED` voxel to the ball whose centre is nearest, of all balls (spec 5.3); the first where two are.

    boxes : (n, 6) begin and end of every ball's box: shared voxels lie in them.
    """
    for box in boxes:
        for z in range(box[0], box[3]):
            for y in range(box[1], box[4]):
                for x in range(box[2], box[5]):
                    if owner[z, y, x] == SHARED:
                        least, nearest = np.inf, NOBODY
                        for ball in range(len(centres)):
                            far = (z - centres[ball, 0]) ** 2 * squares[0]
                            if far >= least:
                                continue
                            far += (y - centres[ball, 1]) ** 2 * squares[1] + (x - centres[ball, 2]) ** 2 * squares[2]
                            if far < least:
                                least, nearest = far, ball
                        owner[z, y, x] = nearest


@numba.njit(cache=True, nogil=True)
def point_to(
    vectors: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    owner: npt.NDArray[np.int32],
    corner: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.int64],
    partners: npt.NDArray[np.float64],
    voxel_size: npt.NDArray[np.float64],
) -> None:
    """Write, at every owned voxel of the request, the vector to its owner's partner.

    Parameters
    ----------
    vectors : (3, z, y, x) nm, filled with 0, of the request.  mask : (z, y, x), filled with 0.
    owner : (z, y, x) of a region around the request; the request begins at its voxel `corner`.
    boxes : (n, 6) boxes that hold every owned voxel, in voxels of `owner`.
    partners : (n, 3) nm relative to the begin of the request.
    """
    for box in boxes:
        for z in range(max(box[0], corner[0]), min(box[3], corner[0] + mask.shape[0])):
            for y in range(max(box[1], corner[1]), min(box[4], corner[1] + mask.shape[1])):
                for x in range(max(box[2], corner[2]), min(box[5], corner[2] + mask.shape[2])):
                    ball = owner[z, y, x]
                    if ball < 0:
                        continue
                    k, j, i = z - corner[0], y - corner[1], x - corner[2]
                    if mask[k, j, i]:
                        continue
                    mask[k, j, i] = 1
                    vectors[0, k, j, i] = partners[ball, 0] - k * voxel_size[0]
                    vectors[1, k, j, i] = partners[ball, 1] - j * voxel_size[1]
                    vectors[2, k, j, i] = partners[ball, 2] - i * voxel_size[2]
