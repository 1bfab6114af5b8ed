"""A small ground-truth folder of simulated neurons, and settings that train on it in seconds."""

from pathlib import Path

from tasks.spikes.ground_truth import import_ground_truth
from tests.spikes.ground_truth_files import trial_values

QUICK = {
    "smoothing": 0.1,
    "sampling_rate": 30.0,
    "filter_numbers": [4, 5, 6],
    "dense_expansion": 7,
    "nr_of_epochs": 1,
    "epoch_windows": 5_000,
}


def make_ground_truth(folder: Path, datasets: int = 3, neurons: int = 2) -> Path:
    for d in range(datasets):
        for n in range(neurons):
            import_ground_truth(*trial_values(seconds=30, seed=10 * d + n), folder, dataset=f"DS9{d}-simulated", neuron=f"cell{n}")
    return folder
