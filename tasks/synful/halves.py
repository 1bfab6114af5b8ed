"""Groups of sites parted in two by 2-means, all groups at once and always the same way."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROUNDS: int = 100
"""Of moving the centres, at most; far more than any real group takes."""


def part_in_two(sites: Floats, starts: Ints) -> Ints:
    """0 or 1 per site, (n,).

    The first centre is the site farthest from the group's mean, the second the one farthest from the first; each site goes to the nearer
    centre, the first where both are as near, and centres move to the mean of their sites until none changes.

    Parameters
    ----------
    sites : (n, 3), sorted by group.  starts : (groups + 1,) where each begins, and the end.
    """
    group = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    one = sites[_farthest(sites, _means(sites, group, len(starts) - 1), group, starts)]
    two = sites[_farthest(sites, one, group, starts)]
    side = np.zeros(len(sites), np.int64)
    for _ in range(ROUNDS):
        new = (_squares(sites, two[group]) < _squares(sites, one[group])).astype(np.int64)
        if (new == side).all():
            break
        side = new
        centres = _means(sites, 2 * group + side, 2 * len(one)).reshape(-1, 2, 3)
        one, two = (np.where(np.isnan(moved), old, moved) for moved, old in ((centres[:, 0], one), (centres[:, 1], two)))
    return side


def _farthest(sites: Floats, centres: Floats, group: Ints, starts: Ints) -> Ints:
    """The site of every group that lies farthest from its centre, the first of several."""
    return np.asarray(np.lexsort((-_squares(sites, centres[group]), group))[starts[:-1]], np.int64)


def _squares(sites: Floats, centres: Floats) -> Floats:
    return np.asarray(((sites - centres) ** 2).sum(axis=1), np.float64)


def _means(sites: Floats, group: Ints, groups: int) -> Floats:
    """(groups, 3), not a number where a group is empty."""
    sizes = np.bincount(group, minlength=groups)
    sums = np.stack([np.bincount(group, weights=axis, minlength=groups) for axis in sites.T], axis=1)
    return np.asarray(np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], np.nan), np.float64)
