"""Synthetic electron micrographs with known synaptic partners: packed neurites, dark membranes, organelles, and polyadic synapses.

For demonstrations and tests: the pictures look like sections of an insect's neuropil at a glance, the truth is known to the voxel, and a
seed decides everything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError
from tasks.synful.partners import cantor_ids, ordered, table

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.synful.simulated_synapses import Synapse
    from tasks.synful.simulated_tissue import Tissue

Floats = npt.NDArray[np.float32]
Point = npt.NDArray[np.float64]
VOXEL_SIZE = (40.0, 8.0, 8.0)


@dataclass(frozen=True, slots=True)
class SimulatedVolume:
    """A volume and its truth.

    raw : (z, y, x) uint8.  segmentation : (z, y, x) uint64, neurites from 1.  voxel_size : nm.
    partners : table of partners with score 1 and the columns segment_pre and segment_post; positions relative to the volume's begin.
    """

    raw: npt.NDArray[np.uint8]
    partners: "pa.Table"
    segmentation: npt.NDArray[np.uint64]
    voxel_size: tuple[float, float, float]


def simulate_volume(
    shape: Sequence[int], voxel_size: Sequence[float] = VOXEL_SIZE, *, seed: int = 0, synapses_per_um3: float = 2.5, noise: float = 1.0
) -> SimulatedVolume:
    """Make a volume.

    Parameters
    ----------
    shape : voxels, z y x.  voxel_size : nm; made for sections of 30 to 50 nm and pixels of 4 to 10 nm.
    synapses_per_um3 : presynaptic densities; each has 2 to 5 partners.
    noise : of the picture, as a factor.

    Raises
    ------
    ConfigError : a volume too small to hold a synapse.
    """
    from tasks.synful.simulated_synapses import place_synapses
    from tasks.synful.simulated_tissue import grow_tissue

    size = (float(voxel_size[0]), float(voxel_size[1]), float(voxel_size[2]))
    extent = np.multiply(shape, size)
    if (extent < 320).any():
        raise ConfigError(f"a volume of {extent.tolist()} nm holds no synapse: make every axis at least 320 nm")
    random = np.random.default_rng(seed)
    tissue = grow_tissue(shape, size, random)
    synapses = place_synapses(tissue, size, random, per_um3=synapses_per_um3)
    raw = _render(tissue, synapses, np.array(size), random, noise=noise)
    return SimulatedVolume(raw, _partners(synapses, np.array(size)), tissue.labels, size)


def _partners(synapses: Sequence["Synapse"], size: Point) -> "pa.Table":
    """One row per post-synaptic site."""
    posts = np.concatenate([s.posts for s in synapses]) if synapses else np.zeros((0, 3))
    pres = np.array([s.pre for s in synapses for _ in s.posts]).reshape(-1, 3)
    segments = {
        "segment_pre": np.array([s.pre_label for s in synapses for _ in s.posts], np.uint64),
        "segment_post": np.concatenate([s.post_labels for s in synapses]) if synapses else np.zeros(0, np.uint64),
    }
    voxels = np.floor_divide(posts, size).astype(np.int64)
    return ordered(table(pres, posts, np.ones(len(posts)), cantor_ids(voxels), more=segments))


def _render(
    tissue: "Tissue", synapses: Sequence["Synapse"], size: Point, random: np.random.Generator, *, noise: float
) -> npt.NDArray[np.uint8]:
    """The picture: what absorbs electrons is dark."""
    from scipy.ndimage import gaussian_filter

    shape = tissue.labels.shape
    brightness = random.normal(168, 9, int(tissue.labels.max()) + 1).astype(np.float32)
    picture = brightness[tissue.labels]
    pixel = size[1] / 8.0
    for sigma, strength in ((1.2, 16.0), (3.5, 9.0)):
        grain = gaussian_filter(random.standard_normal(shape, dtype=np.float32), (0, sigma / pixel, sigma / pixel))
        picture += strength * noise * grain / grain.std()
    _draw_mitochondria(picture, tissue, size, random)
    _draw_vesicles(picture, tissue, synapses, size, random)
    picture -= _membranes(tissue, size)
    for synapse in synapses:
        _draw_synapse(picture, tissue, synapse, size, random)
    picture = gaussian_filter(picture, (0, 0.7 / pixel, 0.7 / pixel))
    picture = _uneven(picture, random) + 5.0 * noise * random.standard_normal(shape, dtype=np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _membranes(tissue: "Tissue", size: Point) -> Floats:
    """Darkness of membranes: narrow where they stand upright in the section, smeared and paler where they lean."""
    upright = 9.0
    width = np.sqrt(upright**2 + (tissue.tilt * size[0] / 4) ** 2)
    dark = 90 * upright / width * np.exp(-((tissue.gap / width) ** 2))
    return np.asarray(dark, np.float32)


def _uneven(picture: Floats, random: np.random.Generator) -> Floats:
    """Every section has its own brightness and contrast, a little."""
    sections = len(picture)
    contrast = random.normal(1, 0.03, sections).astype(np.float32)[:, None, None]
    return (picture - 150) * contrast + 150 + random.normal(0, 4, sections).astype(np.float32)[:, None, None]


def _around(centre: Point, reach: float, size: Point, shape: Sequence[int]) -> tuple[tuple[slice, ...], Floats]:
    """The box within `reach` nm of a point, and for each of its voxels the way from the point, (3, z, y, x) nm."""
    begin = np.maximum(np.ceil((centre - reach) / size), 0).astype(int)
    end = np.maximum(np.minimum(np.floor((centre + reach) / size) + 1, shape).astype(int), begin)
    axes = [np.arange(b, e) * s - c for b, e, s, c in zip(begin, end, size, centre, strict=True)]
    return tuple(slice(b, e) for b, e in zip(begin, end, strict=True)), np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def _draw_mitochondria(picture: Floats, tissue: "Tissue", size: Point, random: np.random.Generator) -> None:
    """Dark ovals with cristae, where a neurite is thick enough."""
    room = np.argwhere(tissue.gap > 105)
    for voxel in random.permutation(room)[: round(tissue.labels.size * float(np.prod(size)) / 1e9)]:
        centre, radii = voxel * size, random.uniform((150, 75, 75), (260, 100, 150))
        box, way = _around(centre, 260, size, picture.shape)
        angle, phase = random.uniform(0, np.pi, 2)
        u = np.cos(angle) * way[1] + np.sin(angle) * way[2]
        v = np.cos(angle) * way[2] - np.sin(angle) * way[1]
        depth = np.sqrt((way[0] / radii[0]) ** 2 + (u / radii[1]) ** 2 + (v / radii[2]) ** 2)
        body = (depth < 1) & (tissue.gap[box] > 16) & (tissue.labels[box] == tissue.labels[tuple(voxel)])
        cristae = 12 * np.sin(v / 9 + phase + 0.01 * way[0]) + 35 * np.exp(-(((depth - 1) / 0.12) ** 2))
        picture[box] -= np.where(body, 38 + cristae, 0).astype(np.float32)


def _draw_vesicles(picture: Floats, tissue: "Tissue", synapses: Iterable["Synapse"], size: Point, random: np.random.Generator) -> None:
    """Small clear vesicles around presynaptic densities and some elsewhere; here and there one with a dense core."""
    volume_um3 = tissue.labels.size * float(np.prod(size)) / 1e9
    extent = np.multiply(tissue.labels.shape, size)
    near = [s.pre + random.normal(0, 65, 3) + 55 * s.normal for s in synapses for _ in range(18)]
    elsewhere = list(random.uniform(0, extent, (round(25 * volume_um3), 3)))
    for number, centre in enumerate([*near, *elsewhere]):
        box, way = _around(centre, 34, size, picture.shape)
        if 0 in picture[box].shape:
            continue
        far = np.sqrt(way[1] ** 2 + way[2] ** 2)
        dense = number >= len(near) and number % 6 == 0
        dark = 60 * np.exp(-((far / 18) ** 2)) if dense else 34 * np.exp(-(((far - 17) / 6) ** 2)) - 10 * np.exp(-((far / 12) ** 2))
        picture[box] -= np.where((tissue.gap[box] > 22) & (np.abs(way[0]) < size[0] / 2), dark, 0).astype(np.float32)


def _draw_synapse(picture: Floats, tissue: "Tissue", synapse: "Synapse", size: Point, random: np.random.Generator) -> None:
    """A T-bar (a pedestal on the membrane and a platform on it) and a density inside the membrane of each post-synaptic site."""
    box, way = _around(synapse.foot, 130, size, picture.shape)
    flat = np.sign(way[0]) * np.maximum(np.abs(way[0]) - 0.4 * size[0], 0)
    way = np.stack([flat, way[1], way[2]])
    height = np.einsum("c,czyx->zyx", synapse.normal, way)
    aside = np.sqrt(np.maximum((way**2).sum(axis=0) - height**2, 0))
    pedestal = (height > -4) & (height < 48) & (aside < 15)
    platform = (np.abs(height - 50) < 12) & (aside < 54)
    own = tissue.labels[box] == synapse.pre_label
    picture[box] -= np.where(own & (pedestal | platform), random.uniform(90, 115), 0).astype(np.float32)
    for post, label in zip(synapse.posts, synapse.post_labels, strict=True):
        box, way = _around(post, 70, size, picture.shape)
        density = np.exp(-((np.sqrt((way**2).sum(axis=0)) / 35) ** 4)) * (tissue.labels[box] == label)
        picture[box] -= (random.uniform(85, 110) * density).astype(np.float32)
