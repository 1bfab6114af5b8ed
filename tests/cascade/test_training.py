import numpy as np
import pytest
import torch

from blockwise.errors import ConfigError, ModelError
from tasks.cascade.benchmark import held_out_traces, member_rates, score_neurons
from tasks.cascade.training import KERAS_NAMES, TrainingConfig, fit, train_member
from tests.spikes.ground_truth_files import neuron

SMALL = TrainingConfig(smoothing=0.1, filter_numbers=(6, 8, 10), dense_expansion=8, nr_of_epochs=2, epoch_windows=20_000)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def neurons(count=4, seed=0):
    return [neuron(name=str(i), seconds=120, seed=seed + i) for i in range(count)]


def test_a_trained_member_finds_spikes_it_has_not_seen():
    config = SMALL.model_copy(update={"batch_size": 512, "learning_rate": 3e-3, "nr_of_epochs": 5})
    member = train_member(neurons(), config, noise_level=2, member=0)
    traces = held_out_traces(neurons(3, seed=50), config, noise_level=2)
    rates = member_rates([member], config)
    scores = score_neurons(traces, [rates(t) for t in traces], config.smoothing * config.sampling_rate)
    assert np.median([s.correlation for s in scores if s.neuron]) > 0.7


def test_adagrad_learns():
    """The original's optimiser is slow at the start; five epochs of small batches must still lower the loss."""
    config = SMALL.model_copy(update={"optimizer": "adagrad", "batch_size": 128, "nr_of_epochs": 5})
    losses = train_member(neurons(1), config, noise_level=2, member=0).losses
    assert losses[-1] < 0.97 * losses[0]


def test_the_same_arguments_give_the_same_bytes_and_others_do_not():
    first, again = (train_member(neurons(1), SMALL, noise_level=2, member=0, seed=5) for _ in range(2))
    others = [train_member(neurons(1), SMALL, noise_level=level, member=m, seed=s) for level, m, s in ((2, 1, 5), (2, 0, 6), (3, 0, 5))]
    assert tuple(first.weights) == KERAS_NAMES
    assert all(np.array_equal(first.weights[k], again.weights[k]) for k in KERAS_NAMES)
    assert all(not np.array_equal(first.weights["conv1.kernel"], o.weights["conv1.kernel"]) for o in others)


class Linear(torch.nn.Module):
    """A user's own network: one linear filter over the window."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.filter = torch.nn.Conv1d(1, 1, window)

    def forward(self, pieces: torch.Tensor) -> torch.Tensor:
        return self.filter(pieces[:, None])[:, 0]


def linear_network(config: TrainingConfig, generator: torch.Generator) -> torch.nn.Module:
    module = Linear(config.windowsize)
    torch.nn.init.zeros_(module.filter.weight)
    torch.nn.init.zeros_(module.filter.bias)
    return module


def test_the_network_can_be_replaced():
    member = train_member(neurons(1), SMALL, noise_level=2, member=0, network=linear_network)
    assert {k: v.shape for k, v in member.weights.items()} == {"filter.weight": (1, 1, 64), "filter.bias": (1,)}
    (trace,) = held_out_traces(neurons(1), SMALL, noise_level=2)
    rates = member_rates([member], SMALL, linear_network)(trace)
    assert np.isnan(rates).sum() == 63
    assert np.nanmax(rates) > 0


def test_a_network_that_draws_its_own_start_repeats_too():
    def network(config, generator):
        return Linear(config.windowsize)

    state = torch.random.get_rng_state()
    first, again = (train_member(neurons(1), SMALL, noise_level=2, member=0, network=network) for _ in range(2))
    assert np.array_equal(first.weights["filter.weight"], again.weights["filter.weight"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_of_the_wrong_output_is_refused_before_training():
    with pytest.raises(ModelError, match=r"answers \(2, 191\) with \(2, 127\), expected \(2, 128\)"):
        fit([], SMALL, seed=0, network=lambda config, generator: Linear(config.windowsize + 1))


@pytest.mark.parametrize(
    "values", [{"sampling_rate": 0}, {"optimizer": "sgd"}, {"filter_sizes": (31, 0, 5)}, {"before_frac": 1.5}, {"epochs": 3}]
)
def test_settings_are_checked(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        TrainingConfig(**values)


def test_a_window_the_filters_do_not_fit_is_refused():
    with pytest.raises(ConfigError, match="too short"):
        train_member(neurons(1), SMALL.model_copy(update={"windowsize": 40}), noise_level=2, member=0)


def test_progress_is_told_per_epoch():
    told = []
    member = train_member(neurons(1), SMALL, noise_level=2, member=0, progress=lambda *values: told.append(values))
    assert told == list(enumerate(member.losses))
