"""Ground-truth folders for tests, in the published form."""

from pathlib import Path

import numpy as np

from tasks.spikes.ground_truth import SPIKE_CLOCK_HZ, Neuron, Trial
from tasks.spikes.simulate import simulate_session


def trial_values(seconds: float = 40.0, frame_rate: float = 30.0, *, seed: int = 0, noise_level: float = 1.0):
    """dff (frames,), time_s (frames,), spike_times_s of one simulated trial."""
    frames = int(seconds * frame_rate)
    dff, spikes = simulate_session(1, frames, frame_rate, noise_level=noise_level, seed=seed)
    time_s = np.arange(frames) / frame_rate
    return dff[0].astype(np.float64), time_s, np.repeat(time_s, spikes[0])


def neuron(dataset: str = "DS90-test", name: str = "a", *, trials: int = 1, seed: int = 0, **values) -> Neuron:
    """A simulated neuron in memory."""
    frame_rate = values.get("frame_rate", 30.0)
    made = [Trial(dataset, name, i, *trial_values(seed=seed + i, **values), frame_rate) for i in range(trials)]
    return Neuron(dataset, name, tuple(made))


def write_mat(path: Path, trials: list[dict[str, np.ndarray]]) -> Path:
    """A `CAttached*_mini.mat` file: one struct per trial with the given fields, events as samples of the 10 kHz clock."""
    from scipy.io import savemat

    cells = np.empty((1, len(trials)), object)
    for i, trial in enumerate(trials):
        cells[0, i] = {"pixels": np.zeros((2, 2)), **trial}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"CAttached": cells})
    return path


def mat_trial(dff: np.ndarray, time_s: np.ndarray, spikes_s: np.ndarray) -> dict[str, np.ndarray]:
    return {"fluo_mean": dff[:, None], "fluo_time": time_s[:, None], "events_AP": spikes_s[None] * SPIKE_CLOCK_HZ}
