"""Polyadic synapses for simulate.py: a presynaptic density at a membrane and several post-synaptic sites across it, as in flies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tasks.synful.simulated_tissue import Tissue

Point = npt.NDArray[np.float64]
REACH_NM = 200.0
SITE_SPACING_NM = 450.0
POST_SPACING_NM = 90.0
DENSITY_DEPTH_NM = 45.0
OUT_OF_PLANE_NM = 60.0
"""How many nm above or below its density a post-synaptic site may lie, so that both are seen together."""


@dataclass(frozen=True, slots=True)
class Synapse:
    """One presynaptic density and the sites it faces.

    foot : nm, where it stands on the membrane.  normal : unit vector from there into the presynaptic neurite.
    pre : nm, its middle.  posts : (n, 3) nm, each inside its neurite.  pre_label, post_labels : neurites.
    """

    foot: Point
    normal: Point
    pre: Point
    posts: Point
    pre_label: int
    post_labels: npt.NDArray[np.uint64]


def place_synapses(tissue: "Tissue", voxel_size: Sequence[float], random: np.random.Generator, *, per_um3: float) -> list[Synapse]:
    """Synapses at random membranes that stand upright in their section, so that they can be seen.

    Parameters
    ----------
    per_um3 : presynaptic densities per cubic micrometre to aim at; each has 2 to 5 post-synaptic sites.
    """
    size = np.asarray(voxel_size, np.float64)
    wanted = round(per_um3 * tissue.labels.size * float(np.prod(size)) / 1e9)
    places = np.argwhere((tissue.gap < 10) & (tissue.tilt < 0.5))
    margin = np.ceil(100 / size)
    places = places[((places >= margin) & (places < np.array(tissue.labels.shape) - margin)).all(axis=1)]
    made: list[Synapse] = []
    for place in random.permutation(places)[: 60 * wanted]:
        if len(made) == wanted:
            break
        if all(np.linalg.norm(place * size - s.foot) > SITE_SPACING_NM for s in made):
            made.extend(_synapse(tissue, place, size, random))
    return made


def _synapse(tissue: "Tissue", place: npt.NDArray[np.int64], size: Point, random: np.random.Generator) -> Iterator[Synapse]:
    """The synapse at a place on a membrane, where there is room for one."""
    reach = np.ceil(REACH_NM / size).astype(int)
    begin = np.maximum(place - reach, 0)
    box = tuple(slice(b, e) for b, e in zip(begin, np.minimum(place + reach + 1, tissue.labels.shape), strict=True))
    labels, gap, centre = tissue.labels[box], tissue.gap[box], place - begin
    label = labels[tuple(centre)]
    normal = _inward(labels == label, centre, size)
    middle = np.rint(centre + DENSITY_DEPTH_NM * normal / size).astype(int)
    if normal[0] ** 2 > 0.3 or not _is_inside(middle, labels.shape) or labels[tuple(middle)] != label or gap[tuple(middle)] < 25:
        return
    posts = _posts(labels, gap, centre, label, size, random)
    if len(posts) >= 2:
        at = (posts + begin) * size
        yield Synapse(place * size, normal, (middle + begin) * size, at, int(label), labels[tuple(posts.T)])


def _posts(
    labels: npt.NDArray[np.uint64],
    gap: npt.NDArray[np.float32],
    centre: npt.NDArray[np.int64],
    label: np.uint64,
    size: Point,
    random: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Voxels just across the membrane from `label`, 30 to 160 nm from `centre`, apart from one another; (n, 3)."""
    from scipy.ndimage import distance_transform_edt

    across = distance_transform_edt(labels != label, sampling=size)
    voxels = np.argwhere((across > 22) & (across < 36) & (gap > 16))
    far = np.linalg.norm((voxels - centre) * size, axis=1)
    voxels = voxels[(far > 30) & (far < 160) & (np.abs(voxels[:, 0] - centre[0]) * size[0] <= OUT_OF_PLANE_NM)]
    chosen: list[npt.NDArray[np.int64]] = []
    for voxel in random.permutation(voxels):
        if all(np.linalg.norm((voxel - c) * size) > POST_SPACING_NM for c in chosen):
            chosen.append(voxel)
        if len(chosen) == 5:
            break
    return np.array(chosen, np.int64).reshape(-1, 3)


def _inward(inside: npt.NDArray[np.bool_], centre: npt.NDArray[np.int64], size: Point) -> Point:
    """Unit vector from the membrane into a neurite: the gradient of its smoothed mask."""
    from scipy.ndimage import gaussian_filter

    soft = gaussian_filter(inside.astype(np.float32), 30 / size)
    slope = np.array([g[tuple(centre)] for g in np.gradient(soft, *size)])
    return slope / max(float(np.linalg.norm(slope)), 1e-9)


def _is_inside(voxel: npt.NDArray[np.int64], shape: Sequence[int]) -> bool:
    return bool(((voxel >= 0) & (voxel < shape)).all())
