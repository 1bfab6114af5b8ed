"""What becomes of raw rates: negative and sub-spike rates, and the ends of a recording (Cascade spec 4, steps 5 and 6)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError

Threshold = bool | int | float


def check_threshold(threshold: Any) -> int | None:
    """`threshold` as None (False: leave rates as they are), 0 (negative rates become 0) or 1 (rates below one spike become 0).

    Raises
    ------
    ConfigError : anything else.
    """
    if threshold is False:
        return None
    if np.ndim(threshold) == 0 and not isinstance(threshold, str) and threshold in (0, 1):
        return int(threshold)
    raise ConfigError(f"threshold {threshold!r}: use 0 (no negative rates), 1 (no rates below a spike's) or false (rates as they are)")


def spike_threshold(sigma: float) -> float:
    """The rate below which there is no spike: the peak of one spike smoothed by a Gaussian of `sigma` frames, over e."""
    from scipy.ndimage import gaussian_filter

    impulse = np.zeros(1001)
    impulse[501] = 1.0
    return float(np.max(gaussian_filter(impulse, sigma)) / np.exp(1))


def dilation(sigma: float) -> int:
    """Frames by which threshold 1 keeps rates around those above it; 0 means the whole row is kept if any frame passes."""
    return int(sigma)


def apply_threshold(rates: npt.NDArray[Any], threshold: int | None, sigma: float) -> None:
    """Apply a checked threshold in place.

    Parameters
    ----------
    rates : (neurons, frames); of a part of a recording only frames with `dilation(sigma)` frames on both sides come out right, and
        where that is 0 only whole rows do.
    sigma : frames.
    """
    if threshold == 1:
        rates[~_around_spikes(rates, sigma)] = 0
    if threshold is not None:
        rates[rates < 0] = 0


def _around_spikes(rates: npt.NDArray[Any], sigma: float) -> npt.NDArray[np.bool_]:
    above: npt.NDArray[np.bool_] = rates > spike_threshold(sigma)
    reach = dilation(sigma)
    if reach == 0:
        return np.broadcast_to(above.any(axis=1, keepdims=True), above.shape)
    kept = above.copy()
    for shift in range(1, min(reach, above.shape[1] - 1) + 1):
        kept[:, shift:] |= above[:, :-shift]
        kept[:, :-shift] |= above[:, shift:]
    return kept
