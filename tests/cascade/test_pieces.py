import numpy as np
import pytest

from blockwise.errors import ConfigError, InputError
from tasks.cascade.pieces import clean_sets, draw_pieces
from tests.spikes.ground_truth_files import neuron

SETTINGS = {"frame_rate": 30.0, "smoothing": 0.05, "causal": True, "window": 64}
CUT = {"window": 64, "before": 32, "windows_per_piece": 128}


def drawn(neurons, most_windows=10**9, **changes):
    sets = clean_sets(neurons, noise_level=2, **SETTINGS)
    return sets, draw_pieces(sets, **(CUT | changes), most_windows=most_windows, random=np.random.RandomState(0))


def test_every_window_of_every_copy_is_drawn_once():
    """Level 1 data at level 2 makes a known number of copies; each has frames - 63 windows, wherever its pieces begin."""
    sets, pieces = drawn([neuron(seconds=40, seed=3)])
    (trial,) = sets[0].trials
    copies, rest = divmod(pieces.windows, trial.dff.size - 63)
    assert rest == 0
    assert abs(copies - trial.copies) <= 1
    assert pieces.inputs.shape[1] == 191
    assert pieces.targets.shape == (len(pieces.inputs), 128)


def test_targets_belong_to_the_frame_in_the_middle_of_their_window():
    """Noise aside, the trace under the windows with the largest targets is the trace under the largest target of the trial."""
    sets, pieces = drawn([neuron(seconds=40, seed=3)])
    (trial,), (target,) = sets[0].trials, sets[0].targets
    peak = int(np.argmax(target[32:-31])) + 32
    piece, window = np.unravel_index(np.nanargmax(pieces.targets), pieces.targets.shape)
    assert pieces.targets[piece, window] == np.float32(target[peak])
    cut = pieces.inputs[piece, window : window + 64] - trial.dff[peak - 32 : peak + 32]
    assert np.abs(cut).max() < 6 * trial.noise_std.max()


def test_trials_shorter_than_a_piece_are_used_and_shorter_than_a_window_are_not():
    short, tiny = neuron(seconds=3, seed=1), neuron("DS91-tiny", seconds=2.1, seed=2)
    sets, pieces = drawn([short, tiny])
    assert [t.dff.size for s in sets for t in s.trials] == [90]
    assert pieces.windows % (90 - 63) == 0


def test_the_number_of_windows_is_bounded_and_shared_in_proportion():
    neurons = [neuron(seconds=200, seed=1), neuron("DS91-other", seconds=200, seed=2)]
    _, whole = drawn(neurons)
    _, part = drawn(neurons, most_windows=whole.windows // 2)
    assert part.windows == pytest.approx(whole.windows / 2, rel=0.35)


def test_nothing_left_to_train_on_is_an_error():
    with pytest.raises(InputError, match="all trials are noisier than level 2"):
        clean_sets([neuron(noise_level=5.0)], noise_level=2, **SETTINGS)


def test_an_epoch_without_any_copy_is_an_error():
    with pytest.raises(ConfigError, match="epoch_windows 1 came to no copy"):
        drawn([neuron()], most_windows=1)


def test_a_piece_holds_at_least_one_window():
    with pytest.raises(ConfigError, match="windows_per_piece 0"):
        drawn([neuron()], windows_per_piece=0)
