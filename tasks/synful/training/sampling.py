"""Where in a cube a sample lies: uniformly, or so that it holds a post-synaptic site (spec 5.2 point 2)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from blockwise.geometry import Region
from tasks.synful.training.cubes import Cube
from tasks.synful.training.points import inside

TRIES = 20_000


def places(cube: Cube, output: Sequence[int], context: Sequence[int], *, pad: bool) -> Region:
    """Begins that the output of a sample may have; half-open.

    Parameters
    ----------
    output : voxels of the output.  context : voxels of the input before it, and as many after.
    pad : inputs may reach beyond the raw data.

    Raises
    ------
    InputError : the cube is too small; names both sizes.
    """
    usable = cube.known
    if not pad:
        usable = usable.intersect(cube.raw.region.grow([-n for n in context], [-n for n in context]))
    begins = Region(usable.begin, tuple(e - n + 1 for e, n in zip(usable.end, output, strict=True)))
    if begins.size == 0 or min(begins.shape) < 1:
        inputs = [n + 2 * c for n, c in zip(output, context, strict=True)]
        raise InputError(
            f"cube {cube.name}: a sample has {list(inputs)} voxels of raw data and {list(output)} of output, the cube "
            f"{list(cube.raw.region.shape)} and {list(cube.known.shape)}: lower `input_size`, or set `pad`"
        )
    return begins


def draw_place(
    cube: Cube, begins: Region, output: Sequence[int], random: np.random.Generator, *, with_points: float, min_masked: float
) -> tuple[int, ...]:
    """Begin of a random output.

    Parameters
    ----------
    begins : from `places`.
    with_points : the share of samples that must hold a post-synaptic site. Such a place is made of a random site and a random shift and
        accepted with one over the number of sites it holds, so that crowded places are not favoured.
    min_masked : least share of the output inside the cube's mask and outside its validation mask, where it has them.

    Raises
    ------
    InputError : no place was found in 20,000 tries.
    """
    voxels = cube.sites
    needs_point = bool(random.random() < with_points) and len(voxels) > 0
    for _ in range(TRIES):
        begin = _near_point(voxels, begins, output, random) if needs_point else random.integers(begins.begin, begins.end)
        if begin is not None and _is_masked(cube, begin, output, min_masked):
            return tuple(int(n) for n in begin)
    what = "with a post-synaptic site " if needs_point else ""
    if cube.mask is None and cube.validation_mask is None:
        raise InputError(f"cube {cube.name}: {TRIES} tries found no sample {what}of {list(output)} voxels of output")
    raise InputError(
        f"cube {cube.name}: no sample {what}is {min_masked:.0%} inside the training mask; lower `min_masked` or enlarge the mask"
    )


def check_reach(cube: Cube, begins: Region, output: Sequence[int]) -> None:
    """Refuse a cube with sites of which no output of a sample can hold one.

    Raises
    ------
    InputError : it is so; names where outputs can be.
    """
    sites = cube.sites
    begin, end = [b + 1 for b in begins.begin], [e + n - 1 for e, n in zip(begins.end, output, strict=True)]
    if len(sites) and not inside(sites.astype(np.float64), begin, end).any():
        raise InputError(
            f"cube {cube.name}: none of its {len(sites)} post-synaptic sites lies where the output of a sample can be, voxels "
            f"{begin} to {end}: set `pad`, lower `input_size`, or check the unit and the offset of the points"
        )


def _near_point(
    voxels: npt.NDArray[np.int64], begins: Region, output: Sequence[int], random: np.random.Generator
) -> npt.NDArray[np.int64] | None:
    """A begin whose output holds a random site, not on its lower faces; None where it is not accepted."""
    site = voxels[random.integers(len(voxels))]
    low = np.maximum(site - np.asarray(output) + 1, begins.begin)
    high = np.minimum(site, begins.end)
    if (low >= high).any():
        return None
    begin = random.integers(low, high)
    held = int(inside(voxels.astype(np.float64), begin.tolist(), (begin + output).tolist()).sum())
    return begin if random.random() < 1 / held else None


def _is_masked(cube: Cube, begin: npt.NDArray[np.int64], output: Sequence[int], least: float) -> bool:
    if cube.mask is None and cube.validation_mask is None:
        return True
    region = Region(tuple(begin.tolist()), tuple((begin + output).tolist()))
    return float((learnable(cube, region) != 0).mean()) >= max(least, 1e-9)


def learnable(cube: Cube, region: Region) -> npt.NDArray[np.bool_]:
    """Voxels of a region that are learned from: inside the mask, outside the validation mask."""
    kept = np.ones(region.shape, bool)
    if cube.mask is not None:
        kept &= cube.mask.read(region) != 0
    if cube.validation_mask is not None:
        kept &= cube.validation_mask.read(region) == 0
    return kept
