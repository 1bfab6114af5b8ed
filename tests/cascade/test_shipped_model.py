"""The weights that come with the package: complete, small, described, and good at what the demo shows."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

from tasks.cascade import load_model, predict
from tasks.cascade.targets import smooth_counts
from tasks.spikes.metrics import correlation
from tasks.spikes.simulate import simulate_session

FOLDER = Path(str(files("tasks.cascade"))) / "weights" / "blockwise_EXC_30Hz_smoothing50ms_causalkernel"


def test_it_is_complete_and_small():
    model = load_model(FOLDER)
    assert {level: len(members) for level, members in model.levels.items()} == dict.fromkeys(range(2, 9), 3)
    assert (model.frame_rate, model.smoothing, model.causal, model.windowsize) == (30.0, 0.05, True, 64)
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 8e6


def test_members_differ():
    kernels = [w.conv1.kernel for level in range(2, 9) for w in load_model(FOLDER).members(level)]
    assert all(np.isfinite(k).all() for k in kernels)
    assert len({k.tobytes() for k in kernels}) == 21


def test_the_card_names_every_dataset_it_was_trained_on():
    card = (FOLDER / "MODEL_CARD.md").read_text()
    config = yaml.safe_load((FOLDER / "config.yaml").read_text())
    assert len(config["training_datasets"]) == 12
    assert all(name in card for name in config["training_datasets"])
    assert "10.1038/s41593-021-00895-5" in card


@pytest.mark.parametrize(("noise_level", "bar"), [(1.5, 0.65), (3.0, 0.52), (6.0, 0.33)])
def test_it_finds_simulated_spikes(noise_level, bar):
    dff, spikes = simulate_session(12, 4_000, 30.0, noise_level=noise_level, seed=7)
    rates = predict(dff, FOLDER, frame_rate=30.0)
    truth = [smooth_counts(row.astype(float), 0.05, 30.0, causal=True) for row in spikes]
    assert np.median([correlation(t, r) for t, r in zip(truth, rates, strict=True)]) > bar
    assert 0.5 < np.nansum(rates) / spikes.sum() < 2
