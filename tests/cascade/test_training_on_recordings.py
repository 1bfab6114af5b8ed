"""Training on real ground truth, judged on datasets left out; a tenth of the full training, with bars to match."""

import numpy as np
import pytest
import torch

from tasks.cascade.benchmark import held_out_traces, member_rates, score_neurons, summarise
from tasks.cascade.training import TrainingConfig, train_member
from tasks.spikes.ground_truth import load_ground_truth
from tests.shared import shared

CONFIG = TrainingConfig(sampling_rate=30.0, smoothing=0.05, causal_kernel=True, nr_of_epochs=2, epoch_windows=300_000)
SEEN = ("DS02", "DS07", "DS13", "DS15", "DS17", "DS18", "DS19", "DS20", "DS21")
BARS = {"DS06": 0.60, "DS10": 0.65, "DS16": 0.48}


@pytest.mark.slow
def test_a_short_training_generalises_to_other_datasets():
    folder = shared("data/spikes/ground_truth")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        member = train_member(load_ground_truth(folder, SEEN), CONFIG, noise_level=2, member=0)
        traces = held_out_traces(load_ground_truth(folder, list(BARS)), CONFIG, noise_level=2)
        infer = member_rates([member], CONFIG)
        scores = summarise(score_neurons(traces, [infer(t) for t in traces], 1.5))
    finally:
        torch.set_num_threads(threads)
    found = {s.dataset.split("-")[0]: s.correlation for s in scores}
    assert {name: round(value, 2) for name, value in found.items() if not value > BARS[name]} == {}
    assert {s.dataset.split("-")[0]: s.neurons for s in scores} == {"DS06": 8, "DS10": 23, "DS16": 9}
    assert np.isfinite(member.losses).all()
