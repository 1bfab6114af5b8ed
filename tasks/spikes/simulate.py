"""Simulated calcium recordings with known spikes, for demonstrations and tests; no data from outside is needed.

Spikes are Poisson within up and down states whose rates differ between neurons; calcium rises and decays like GCaMP6f in mouse cortex and
saturates mildly; noise grows with the square root of the signal, as photon noise does, and is scaled to a noise level.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rates = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Indicator:
    """Response of dF/F to one spike: rise and decay time constants (s), peak (fraction), dF/F of full saturation (fraction)."""

    rise_s: float = 0.05
    decay_s: float = 0.4
    amplitude: float = 0.19
    saturation: float = 4.0


GCAMP6F = Indicator()


def simulate_session(
    neurons: int, frames: int, frame_rate: float, *, noise_level: float = 2.0, seed: int = 0, indicator: Indicator = GCAMP6F
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """dF/F and true spikes of one recording.

    Parameters
    ----------
    frame_rate : Hz. noise_level : median over frames, in % s^1/2 (Cascade spec 2).

    Returns
    -------
    dff : (neurons, frames) float32, a fraction. spikes : (neurons, frames) uint8, spikes in each frame.
    """
    random = np.random.default_rng(seed)
    dff = np.empty((neurons, frames), np.float32)
    spikes = np.empty((neurons, frames), np.uint8)
    for row in range(neurons):
        spikes[row] = np.minimum(random.poisson(_spike_rate(frames, frame_rate, random) / frame_rate), 255)
        signal = _fluorescence(spikes[row], frame_rate, indicator, random) + _drift(frames, frame_rate, random)
        dff[row] = signal + random.standard_normal(frames) * _noise_std(signal, frame_rate, noise_level)
    return dff, spikes


def _spike_rate(frames: int, frame_rate: float, random: np.random.Generator) -> Rates:
    """(frames,) Hz: quiet most of the time, bursts of about half a second; the mean is drawn per neuron around 0.5 Hz."""
    mean_hz = float(np.clip(random.lognormal(np.log(0.5), 0.7), 0.05, 5))
    lengths = random.exponential(np.array([3.0, 0.5]), (int(frames / frame_rate / 1.5) + 20, 2)).ravel()
    borders = np.cumsum(np.maximum(1, np.round(lengths * frame_rate))).astype(np.int64)
    active = np.zeros(frames, bool)
    for begin, end in zip(borders[0::2], borders[1::2], strict=True):
        active[begin:end] = True
    share = 0.5 / 3.5
    return np.where(active, 0.8 * mean_hz / share, 0.2 * mean_hz / (1 - share))


def _fluorescence(spikes: npt.NDArray[np.uint8], frame_rate: float, indicator: Indicator, random: np.random.Generator) -> Rates:
    """Calcium as the difference of two decays with a peak of one, spike sizes and the neuron's brightness varied, then saturated."""
    from scipy.signal import lfilter

    sizes = spikes * random.lognormal(0, 0.25, spikes.size)
    slow, fast = (np.exp(-1 / (tau * frame_rate)) for tau in (indicator.decay_s, indicator.rise_s))
    peak = np.max(slow ** np.arange(1, 99) - fast ** np.arange(1, 99))
    calcium = lfilter([1], [1, -slow], sizes) - lfilter([1], [1, -fast], sizes)
    linear = indicator.amplitude * random.lognormal(0, 0.25) * calcium / peak
    return np.asarray(linear / (1 + linear / indicator.saturation), np.float64)


def _drift(frames: int, frame_rate: float, random: np.random.Generator) -> Rates:
    """A slow wave of some percent over minutes."""
    minutes = np.arange(frames) / frame_rate / 60
    return 0.02 * np.sin(2 * np.pi * (minutes / random.uniform(2, 6) + random.uniform()))


def _noise_std(signal: Rates, frame_rate: float, noise_level: float) -> Rates:
    """(frames,) standard deviation that gives the level: the median of |differences| of Gaussian noise is 0.954 times it."""
    brightness = np.sqrt(np.maximum(signal + 1, 0.1))
    return noise_level / 100 * np.sqrt(frame_rate) / 0.9539 * brightness / np.median(brightness)
