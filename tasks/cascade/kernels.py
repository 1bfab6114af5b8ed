"""What one spike looks like in rates."""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from blockwise.errors import ConfigError
from tasks.cascade.threshold import spike_threshold


@dataclass(frozen=True, slots=True)
class SingleSpike:
    """The rate that one isolated spike adds, for a symmetric Gaussian kernel.

    Parameters
    ----------
    sigma : frames, the kernel's standard deviation.
    peak : expected spikes per frame at the spike's own frame.
    peak_hz : the same in spikes per second.
    fwhm : s, full width at half maximum of the kernel.
    threshold : the rate below which threshold 1 of `predict` sees no spike.
    """

    sigma: float
    peak: float
    peak_hz: float
    fwhm: float
    threshold: float


def single_spike(frame_rate: float, smoothing: float) -> SingleSpike:
    """Amplitude and width of one spike in rates smoothed by a Gaussian: 0.266 per frame at 30 Hz and 50 ms.

    Parameters
    ----------
    frame_rate : Hz.
    smoothing : s, standard deviation of the Gaussian.

    Raises
    ------
    ConfigError : one of them is not above 0.
    """
    if not (frame_rate > 0 and smoothing > 0):
        raise ConfigError(f"frame rate {frame_rate} Hz and smoothing {smoothing} s must be above 0")
    threshold = spike_threshold(smoothing * frame_rate)
    peak = float(threshold * np.e)
    return SingleSpike(smoothing * frame_rate, peak, peak * frame_rate, 2 * sqrt(2 * log(2)) * smoothing, threshold)
