"""How well models infer spikes of neurons they have not seen: held-out traces, scores per neuron, medians per dataset.

The original's demonstration of this (spec 8) joins all neurons of a dataset into one trace and predicts with the wrong model. Here every
trial is predicted alone; a neuron's score is taken over the frames of its trials that have a rate; datasets are compared by the median of
their neurons. The joined form is kept as `joined`, for comparison with published numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.cascade.resampling import Floats, noisy_copies, resample_trial
from tasks.cascade.targets import smooth_counts
from tasks.cascade.training import KERAS_NAMES, Member, NetworkFactory, TrainingConfig
from tasks.spikes.ground_truth import Neuron
from tasks.spikes.metrics import correlation, error_and_bias

Rates = Callable[["HeldOutTrace"], npt.NDArray[np.floating]]
"""Infers the rates of one trace: (frames,) expected spikes per frame, NaN where there is none."""


@dataclass(frozen=True, slots=True)
class HeldOutTrace:
    """One noisy trial to be predicted. dff : (frames,) float32. truth : (frames,) float64, smoothed spikes per frame."""

    dataset: str
    neuron: str
    dff: npt.NDArray[np.float32]
    truth: Floats


@dataclass(frozen=True, slots=True)
class Score:
    """Agreement of rates with the truth (Cascade spec 8): of one neuron, or of a dataset (`neuron` says how it was joined)."""

    dataset: str
    neuron: str
    correlation: float
    error: float
    bias: float


@dataclass(frozen=True, slots=True)
class DatasetScore:
    """Medians over the neurons of one dataset; `joined` is the correlation over all of its frames as one trace."""

    dataset: str
    neurons: int
    correlation: float
    error: float
    bias: float
    joined: float


def held_out_traces(neurons: Sequence[Neuron], config: TrainingConfig, *, noise_level: float, seed: int = 1) -> list[HeldOutTrace]:
    """One noisy copy of every trial that is not noisier than the level already, with what should be inferred from it."""
    random = np.random.RandomState(seed)
    traces: list[HeldOutTrace] = []
    for neuron in neurons:
        for trial in neuron.trials:
            clean = resample_trial(trial, noise_level=noise_level, frame_rate=config.sampling_rate, random=random, legacy=config.legacy)
            if clean is not None and clean.dff.size > config.windowsize:
                dff = noisy_copies(clean, 1, random)[:, 0].astype(np.float32)
                truth = smooth_counts(clean.counts, config.smoothing, config.sampling_rate, causal=config.causal_kernel)
                traces.append(HeldOutTrace(neuron.dataset, neuron.name, dff, truth))
    return traces


def member_rates(members: Sequence[Member], config: TrainingConfig, network: NetworkFactory | None = None) -> Rates:
    """The mean answer of trained members, negatives set to zero; NaN where the window does not fit."""
    import torch

    modules = [_module(m, config, network) for m in members]

    def rates(trace: HeldOutTrace) -> npt.NDArray[np.float32]:
        out = np.full(trace.dff.size, np.nan, np.float32)
        with torch.no_grad():
            answers = torch.stack([m(torch.from_numpy(trace.dff)[None])[0] for m in modules]).mean(0).clamp(min=0).numpy()
        out[config.before : config.before + answers.size] = answers
        return out

    return rates


def _module(member: Member, config: TrainingConfig, network: NetworkFactory | None) -> Any:
    import torch

    from tasks.cascade.dense_network import from_keras

    if tuple(member.weights) == KERAS_NAMES:
        return from_keras([member.weights[n] for n in KERAS_NAMES], config.windowsize)
    if network is None:
        raise TypeError("the member is of another network: pass the function that builds it")
    module = network(config, torch.Generator())
    module.load_state_dict({k: torch.from_numpy(v) for k, v in member.weights.items()})
    return module


def model_rates(model: Any) -> Rates:
    """Rates of a model folder or published model, as `tasks.cascade.predict` gives them."""
    from tasks.cascade import load_model, predict

    loaded = load_model(model)
    return lambda trace: np.asarray(predict(trace.dff, loaded))


def score_neurons(traces: Sequence[HeldOutTrace], rates: Sequence[npt.NDArray[np.floating]], sigma: float) -> list[Score]:
    """One score per neuron, over the frames of all its trials; then one per dataset over all frames, with neuron "".

    Parameters
    ----------
    sigma : smoothing in frames, for error and bias.
    """
    neurons = list(dict.fromkeys((t.dataset, t.neuron) for t in traces))
    datasets = [(d, "") for d in dict.fromkeys(t.dataset for t in traces)]
    scores: list[Score] = []
    for dataset, neuron in [*neurons, *datasets]:
        chosen = [i for i, t in enumerate(traces) if t.dataset == dataset and neuron in ("", t.neuron)]
        truth = np.concatenate([traces[i].truth for i in chosen])
        inferred = np.concatenate([rates[i] for i in chosen])
        scores.append(Score(dataset, neuron, correlation(truth, inferred), *error_and_bias(truth, inferred, sigma)))
    return scores


def summarise(scores: Sequence[Score]) -> list[DatasetScore]:
    """Medians per dataset; neurons without a defined value (no spikes) do not count."""
    rows: list[DatasetScore] = []
    for whole in [s for s in scores if not s.neuron]:
        own = [s for s in scores if s.dataset == whole.dataset and s.neuron]
        medians = [_median([getattr(s, key) for s in own]) for key in ("correlation", "error", "bias")]
        rows.append(DatasetScore(whole.dataset, len(own), *medians, whole.correlation))
    return rows


def _median(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.median(known)) if known else float("nan")
