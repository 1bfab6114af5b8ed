"""Extraction as the specification words it, voxel by voxel with SciPy: what the compiled code is compared with."""

import numpy as np
from scipy import ndimage


def boundary_distances(labels, voxel_size):
    """Distance of every voxel to the nearest boundary between two labels: EDT of the grid that has a place per voxel and per face."""
    grid = np.ones([2 * n - 1 for n in labels.shape], bool)
    for axis in range(3):
        faces = [slice(None, None, 2)] * 3
        faces[axis] = slice(1, None, 2)
        grid[tuple(faces)] = np.diff(labels, axis=axis) == 0
    if grid.all():
        return np.inf
    return ndimage.distance_transform_edt(grid, sampling=[s / 2 for s in voxel_size]).astype(np.float32)[::2, ::2, ::2]


def innermost(labels, label, voxel_size, padded=False):
    """The voxel of a component that is farthest from the boundaries in its box."""
    box = ndimage.find_objects(labels)[label - 1]
    crop = np.pad(labels[box], int(padded))
    distances = boundary_distances(crop, voxel_size)
    if np.isscalar(distances):
        return [s.stop - 1 for s in box]
    place = np.unravel_index(np.argmax(np.where(crop == label, distances, -1)), crop.shape)
    return [int(p) + s.start - int(padded) for p, s in zip(place, box, strict=True)]


def ellipsoid(radius_voxels):
    """Footprint of spec 6.2."""
    axes = np.meshgrid(*[np.arange(-r, r + 1) for r in radius_voxels], indexing="ij")
    return sum((a / r) ** 2 for a, r in zip(axes, radius_voxels, strict=True)) <= 1


def painted(components):
    """Labels 1..n of a dense volume."""
    labels = np.zeros(components.shape, np.int32)
    of_run = np.repeat(np.arange(components.number), np.diff(components.offsets))
    for label, row, begin, end in zip(of_run, components.row, components.begin, components.end, strict=True):
        labels[row // components.shape[1], row % components.shape[1], begin:end] = label + 1
    return labels


def smooth(seed, shape=(8, 24, 22), steps=40):
    """A probability of blobs with plateaus, and vectors in nm."""
    random = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(random.random(shape, np.float32), (0.6, 1.5, 1.5))
    mask = np.round((mask - mask.min()) / np.ptp(mask) * steps) / np.float32(steps)
    return mask, random.normal(0, 60, (3, *shape)).astype(np.float32)
