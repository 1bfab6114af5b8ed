"""Weights that let the few voxels of a class count as much as the many of the other (spec 5.4)."""

from typing import Any

import numpy as np
import numpy.typing as npt

CLIPRANGE = (7e-4, 0.9993)


def class_weights(
    indicator: npt.NDArray[Any], *, cliprange: tuple[float, float] = CLIPRANGE, mask: npt.NDArray[Any] | None = None
) -> tuple[float, float]:
    """Weights of background and foreground: 1 / (2 * its share of the block), the share clipped to `cliprange`.

    Parameters
    ----------
    indicator : any shape, foreground > 0.
    mask : the same shape; only where it is not 0 are voxels counted.
    """
    positive = indicator > 0
    total, count = positive.size, np.count_nonzero(positive)
    if mask is not None:
        total, count = np.count_nonzero(mask), np.count_nonzero(positive & (mask != 0))
    share = count / max(total, 1)
    background, foreground = (1 / (2 * float(np.clip(f, *cliprange))) for f in (1 - share, share))
    return background, foreground


def balanced_weights(
    indicator: npt.NDArray[Any], *, cliprange: tuple[float, float] = CLIPRANGE, mask: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.float32]:
    """`class_weights` as a volume, (z, y, x) float32; 0 outside the mask."""
    background, foreground = class_weights(indicator, cliprange=cliprange, mask=mask)
    weights = np.where(indicator > 0, np.float32(foreground), np.float32(background))
    return weights if mask is None else np.where(mask != 0, weights, np.float32(0))
