"""`python -m benchmarks.shipped [GROUND_TRUTH] [PUBLISHED_MODEL]`: the shipped model beside the published one; one JSON object last.

Both are scored on the same noisy traces of the twelve excitatory datasets, at several noise levels. BOTH HAVE SEEN THESE NEURONS in
training (the published one all but those of NOT_IN_PUBLISHED, by its configuration), so this says that the shipped weights are sound, not
how well they generalise: that is what benchmarks.heldout says.

correlation   per noise level and dataset: median over neurons of both models; "all" is the median over the datasets
simulated     median correlation on a simulated session (60 neurons, 5 minutes), seen by neither
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tasks.cascade
from benchmarks.heldout import EXCITATORY, PUBLISHED, SETTINGS, shared_folder
from tasks.cascade.benchmark import HeldOutTrace, Rates, held_out_traces, model_rates, score_neurons, summarise
from tasks.cascade.targets import smooth_counts
from tasks.cascade.training import TrainingConfig
from tasks.spikes.ground_truth import load_ground_truth
from tasks.spikes.simulate import simulate_session

SHIPPED = Path(tasks.cascade.__file__).parent / "weights" / "blockwise_EXC_30Hz_smoothing50ms_causalkernel"
LEVELS = (2, 4, 8)
NOT_IN_PUBLISHED = ("DS02-OGB1-2-m-V1", "DS21-jGECO1a-m-V1")


def compare(ground_truth: Path, models: dict[str, Path]) -> dict[str, Any]:
    """Median correlations of every model, per level and dataset, and on simulated traces."""
    config = TrainingConfig(**SETTINGS)
    neurons = load_ground_truth(ground_truth, EXCITATORY)
    rates = {name: model_rates(str(folder)) for name, folder in models.items()}
    traces = {level: held_out_traces(neurons, config, noise_level=level) for level in LEVELS}
    correlation = {level: _by_dataset(found, rates, config) for level, found in traces.items()}
    simulated = {level: _by_dataset(_simulated(level, config), rates, config)["simulated"] for level in LEVELS}
    return {"correlation": correlation, "simulated": simulated, "seen_by_shipped_only": list(NOT_IN_PUBLISHED)}


def _by_dataset(traces: list[HeldOutTrace], rates: dict[str, Rates], config: TrainingConfig) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, infer in rates.items():
        rows = summarise(score_neurons(traces, [infer(t) for t in traces], config.smoothing * config.sampling_rate))
        for row in rows:
            found.setdefault(row.dataset, {"neurons": row.neurons})[name] = round(row.correlation, 4)
        found.setdefault("all", {})[name] = round(float(np.median([r.correlation for r in rows])), 4)
    return found


def _simulated(level: int, config: TrainingConfig) -> list[HeldOutTrace]:
    dff, spikes = simulate_session(60, 9_000, config.sampling_rate, noise_level=level, seed=1)
    truth = [smooth_counts(row.astype(float), config.smoothing, config.sampling_rate, causal=config.causal_kernel) for row in spikes]
    return [HeldOutTrace("simulated", str(i), x, y) for i, (x, y) in enumerate(zip(dff, truth, strict=True))]


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    ground_truth = Path(arguments[0]) if arguments else shared_folder() / "ground_truth"
    published = Path(arguments[1]) if len(arguments) > 1 else shared_folder() / "cascade" / "Pretrained_models" / PUBLISHED
    models = {"shipped": SHIPPED, **({"published": published} if published.is_dir() else {})}
    result = compare(ground_truth, models)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "shipped.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
