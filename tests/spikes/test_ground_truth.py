import numpy as np
import pytest

from blockwise.errors import BlockwiseWarning, ConfigError, InputError, MissingError
from tasks.spikes.ground_truth import import_ground_truth, list_ground_truth, load_ground_truth, plot_ground_truth
from tests.shared import shared
from tests.spikes.ground_truth_files import mat_trial, neuron, trial_values, write_mat


def test_published_form_is_read_in_order_of_dataset_and_file(tmp_path):
    for dataset, cell, seed in (("DS02-b", "2", 1), ("DS01-a", "1", 2), ("DS02-b", "1", 3)):
        write_mat(tmp_path / dataset / f"CAttached_{cell}_mini.mat", [mat_trial(*trial_values(seed=seed))])
    neurons = load_ground_truth(tmp_path)
    assert [(n.dataset, n.name) for n in neurons] == [
        ("DS01-a", "CAttached_1_mini"),
        ("DS02-b", "CAttached_1_mini"),
        ("DS02-b", "CAttached_2_mini"),
    ]
    dff, time_s, spikes = trial_values(seed=2)
    trial = neurons[0].trials[0]
    assert np.array_equal(trial.dff, dff)
    assert np.array_equal(trial.time_s, time_s)
    np.testing.assert_allclose(trial.spike_times_s, spikes, atol=1e-12)
    assert trial.frame_rate == pytest.approx(30)


def test_frames_and_spikes_without_a_time_are_dropped(tmp_path):
    dff, time_s, spikes = trial_values()
    time_s[-7:] = np.nan
    write_mat(tmp_path / "DS01-a" / "CAttached_1_mini.mat", [mat_trial(dff, time_s, np.append(spikes, np.nan))])
    trial = load_ground_truth(tmp_path)[0].trials[0]
    assert trial.dff.size == trial.time_s.size == dff.size - 7
    assert trial.spike_times_s.size == spikes.size


@pytest.mark.parametrize(("legacy", "expected"), [(False, {"DS01-a": 1, "DS02-b": 1}), (True, {"DS02-b": 1})])
def test_a_trial_that_lacks_a_field_is_named_and_costs_itself_or_in_legacy_its_dataset(tmp_path, legacy, expected):
    whole = mat_trial(*trial_values())
    write_mat(tmp_path / "DS01-a" / "CAttached_1_mini.mat", [whole, {k: v for k, v in whole.items() if k != "fluo_mean"}])
    write_mat(tmp_path / "DS02-b" / "CAttached_1_mini.mat", [whole])
    with pytest.warns(BlockwiseWarning, match=r"DS01-a/CAttached_1_mini.mat trial 1 \(lacks fluo_mean\)"):
        neurons = load_ground_truth(tmp_path, legacy=legacy)
    assert {n.dataset: len(n.trials) for n in neurons} == expected


def test_a_torn_file_is_named_in_the_one_warning(tmp_path):
    good = write_mat(tmp_path / "DS01-a" / "CAttached_1_mini.mat", [mat_trial(*trial_values())])
    (tmp_path / "DS01-a" / "CAttached_2_mini.mat").write_bytes(good.read_bytes()[:500])
    with pytest.warns(BlockwiseWarning, match="1 trials or files left out, the rest is used: DS01-a/CAttached_2_mini.mat") as caught:
        assert len(load_ground_truth(tmp_path)) == 1
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("folder", "datasets", "message"),
    [("nowhere", None, "no ground-truth folder"), (".", None, "no readable ground truth"), (".", ["DS77"], "no dataset DS77")],
)
def test_missing_ground_truth(tmp_path, folder, datasets, message):
    with pytest.raises(MissingError, match=message):
        load_ground_truth(tmp_path / folder, datasets)


def test_import_reads_back_what_it_was_given(tmp_path):
    first, second = trial_values(seed=1), trial_values(seconds=20, seed=2)
    path = import_ground_truth(*map(list, zip(first, second, strict=True)), tmp_path, dataset="mine", neuron="cell1")
    (found,) = load_ground_truth(tmp_path)
    assert (path.name, found.dataset, found.name, len(found.trials)) == ("cell1.npz", "mine", "cell1", 2)
    for trial, given in zip(found.trials, (first, second), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip((trial.dff, trial.time_s, trial.spike_times_s), given, strict=True))
    with pytest.raises(ConfigError, match="overwrite=True"):
        import_ground_truth(*first, tmp_path, dataset="mine", neuron="cell1")
    import_ground_truth(*second, tmp_path, dataset="mine", neuron="cell1", overwrite=True)
    assert len(load_ground_truth(tmp_path)[0].trials) == 1


BAD = {
    "1200 frames of dF/F but 1199 times": lambda d, t, s: (d, t[:-1], s),
    "64 frames, at least 65": lambda d, t, s: (d[:64], t[:64], s[:0]),
    "1 of 1200 values of dff are not finite": lambda d, t, s: (np.where(np.arange(1200) == 5, np.nan, d), t, s),
    "does not rise at frame 601": lambda d, t, s: (d, np.concatenate([t[:601], t[600:-1]]), s),
    "looks like percent, divide by 100": lambda d, t, s: (d * 100, t, s),
    "in seconds on the clock of time_s": lambda d, t, s: (d, t, s * 1000),
}


@pytest.mark.parametrize("message", BAD)
def test_import_refuses_what_does_not_fit_before_writing(tmp_path, message):
    with pytest.raises(InputError, match=message):
        import_ground_truth(*BAD[message](*trial_values()), tmp_path, dataset="mine", neuron="cell1")
    assert not list(tmp_path.iterdir())


def test_import_wants_equally_many_trials(tmp_path):
    dff, time_s, spikes = trial_values()
    with pytest.raises(InputError, match="2 trials of dff, 1 of time_s"):
        import_ground_truth([dff, dff], [time_s], [spikes], tmp_path, dataset="mine", neuron="a")


def test_list_of_the_shared_collection_agrees_with_its_description():
    """Neurons, trials, hours, spikes and rate as the table of Cascade spec 10."""
    rows = {s.dataset[:4]: s for s in list_ground_truth(shared("data/spikes/ground_truth"))}
    assert len(rows) == 17
    for name, expected in {"DS02": (16, 47, 1.94, 1498, 15.6), "DS16": (9, 9, 0.42, 8810, 59), "DS21": (11, 27, 1.96, 9080, 29.7)}.items():
        row = rows[name]
        assert (row.neurons, row.trials, row.spikes) == (expected[0], expected[1], expected[3])
        assert row.hours == pytest.approx(expected[2], abs=0.01)
        assert row.frame_rate == pytest.approx(expected[4], rel=0.01)


def test_plot_shows_every_spike_of_the_excerpt():
    given = neuron(seconds=20)
    figure = plot_ground_truth([given], excerpt_s=30)
    (axis,) = figure.axes
    (ticks,) = axis.collections
    assert len(ticks.get_segments()) == given.trials[0].spike_times_s.size
    assert axis.lines[0].get_xdata().size == given.trials[0].dff.size
