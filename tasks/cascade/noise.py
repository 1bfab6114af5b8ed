"""Noise levels of traces: what chooses the ensemble that infers a neuron's rates (Cascade spec 2)."""

from typing import Any

import numpy as np
import numpy.typing as npt

PERCENT_STD = 2.0
"""Median standard deviation above which dF/F is taken for percent, the rule of the original's notebook."""

PERCENT_STEP = 0.5
"""Median step from frame to frame that percent exceeds too: a noise level of 0.3 gives 1.6 at 30 Hz, as a fraction 0.016."""

SAMPLED_ROWS = 64


def noise_levels(traces: npt.ArrayLike, frame_rate: float) -> Any:
    """Noise level of every row, in % s^1/2: 100 median |x[t+1] - x[t]| / sqrt(frame_rate).

    Steps from or to a missing (NaN) frame do not count. Rows are worked off singly, so that memory does not grow with their number.

    Parameters
    ----------
    traces : (neurons, frames) or (frames,), dF/F as fraction, any real dtype; may be a memory map.
    frame_rate : Hz; the model's, not the recording's, where the levels choose an ensemble.

    Returns
    -------
    (neurons,) in the traces' floating dtype (float64 for integers), NaN where no two consecutive frames are there; a scalar for one row.
    """
    rows = traces if isinstance(traces, np.ndarray) else np.asarray(traces)
    if rows.ndim == 1:
        return _noise_level(rows, frame_rate)
    levels = [_noise_level(row, frame_rate) for row in rows]
    return np.array(levels, _floating(rows.dtype))


def _noise_level(row: npt.NDArray[Any], frame_rate: float) -> Any:
    dtype = _floating(row.dtype)
    return dtype(100) * dtype(_median_step(np.asarray(row, dtype))) / dtype(np.sqrt(frame_rate))


def _median_step(row: npt.NDArray[Any]) -> float:
    with np.errstate(invalid="ignore"):
        steps = np.abs(row[1:] - row[:-1])
    steps = steps[~np.isnan(steps)]
    return float(np.median(steps)) if steps.size else float("nan")


def _floating(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    return dtype.type if dtype.kind == "f" else np.float64


def looks_like_percent(traces: npt.NDArray[Any]) -> bool:
    """Whether dF/F is in percent: in half of the rows it varies by more than 200 % and steps by more than 50 % from frame to frame.

    Judged by up to 64 rows, evenly spread.

    Parameters
    ----------
    traces : (neurons, frames) or (frames,).
    """
    rows = np.atleast_2d(traces)
    sample = [_finite(row) for row in rows[:: max(1, -(-len(rows) // SAMPLED_ROWS))]]
    figures = [(row.std(), _median_step(row)) for row in sample if row.size > 1]
    if not figures:
        return False
    std, step = np.median(figures, axis=0)
    return bool(std > PERCENT_STD and step > PERCENT_STEP)


def _finite(row: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(row[np.isfinite(row)], np.float64)
