"""How well inferred spike rates match the truth, per trace (Cascade spec 8)."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def correlation(truth: Floats, rates: Floats) -> float:
    """Pearson correlation over the frames where both are known; NaN where either does not vary.

    truth, rates : (frames,) expected spikes per frame, both smoothed alike.
    """
    known = ~(np.isnan(truth) | np.isnan(rates))
    a, b = (np.asarray(v[known], np.float64) for v in (truth, rates))
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def error_and_bias(truth: Floats, rates: Floats, sigma: float) -> tuple[float, float]:
    """Relative error and bias of the rates, after both are smoothed once more.

    Parameters
    ----------
    sigma : standard deviation of the Gaussian in frames.

    Returns
    -------
    error : sum |rates - truth| / sum truth. bias : sum (rates - truth) / sum truth. Both NaN where there is no true spike.
    """
    from scipy.ndimage import gaussian_filter

    known = ~(np.isnan(truth) | np.isnan(rates))
    a, b = (gaussian_filter(np.asarray(v[known], np.float64), sigma) for v in (truth, rates))
    total = float(a.sum())
    if total == 0:
        return float("nan"), float("nan")
    return float(np.abs(b - a).sum() / total), float((b - a).sum() / total)
