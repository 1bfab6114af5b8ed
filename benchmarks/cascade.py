"""`python -m benchmarks.cascade`: what spike inference costs; one JSON object last. A neuron-hour is 108,000 frames, an hour at 30 Hz.

cpu_s_per_neuron_hour            `predict` on arrays, five members, one thread, the best of three
run_cpu_s_per_neuron_hour        `blockwise run` with 2 workers on NEURON_HOURS, all processes and start-up included
windowed_cpu_s_per_neuron_hour   the network window by window, as it was published, on a small sample
peak_rss_over_import_mb          of `predict` on 10, 100 and 1,000 neurons x 10,000 frames, each in a fresh process, over its imports
                                 and over the arrays of input and output, which are allocated and touched first
discrete_cpu_s_per_neuron_hour   discrete spikes on top of rates
train_us_per_window              CPU-time of training, per window and member

$BLOCKWISE_CASCADE_MODELS is the folder of the published models; without it five members of random weights of the same shape are made.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from benchmarks.cascade_model import MEMBERS, five_members

NEURON_HOURS = float(os.environ.get("NEURON_HOURS", "200"))
RATE, FRAMES = 30.0, 10_000
HOUR = 108_000

Traces = npt.NDArray[np.float32]

MEMORY = """
import sys
import numpy as np, scipy.ndimage, yaml, torch
from benchmarks.cascade import calcium, peak_rss_mb as peak
from tasks.cascade.inference import predict
torch.set_num_threads(1)
traces = calcium(int(sys.argv[2]), 10_000)
output = np.ones_like(traces)
before = peak()
del output
predict(traces, sys.argv[1], device="cpu")
print(peak() - before)
"""


def main() -> None:
    """All figures."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        model = five_members(RATE, Path(scratch))
        figures: dict[str, object] = {
            "cpu_s_per_neuron_hour": array_cost(model),
            "windowed_cpu_s_per_neuron_hour": windowed_cost(model),
            "discrete_cpu_s_per_neuron_hour": discrete_cost(model),
            "train_us_per_window": training_cost(),
            "peak_rss_over_import_mb": {str(n): memory(model, n) for n in (10, 100, 1000)},
            "run_cpu_s_per_neuron_hour": run_cost(model, Path(scratch)),
        }
    print(
        json.dumps({**figures, "threads": torch.get_num_threads(), "members": MEMBERS, "neuron_hours": NEURON_HOURS, "model": model.name})
    )


def calcium(neurons: int, frames: int, seed: int = 0) -> Traces:
    """Simulated dF/F at 30 Hz, row by row: spikes at 0.5 Hz, each a transient that decays in half a second, and noise of several levels."""
    from scipy.signal import lfilter

    random = np.random.default_rng(seed)
    traces = np.empty((neurons, frames), np.float32)
    for row, noise in zip(traces, np.linspace(0.08, 0.35, neurons), strict=True):
        spikes = (random.random(frames, np.float32) < 0.5 / RATE).astype(np.float32)
        row[:] = 0.2 * lfilter([1], [1, -np.exp(-2 / RATE)], spikes) + noise * random.standard_normal(frames, np.float32)
    return traces


def cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def array_cost(model: Path) -> float:
    from tasks.cascade.inference import predict

    traces = calcium(108, FRAMES)
    predict(traces[:5], model, device="cpu")
    return min(cpu_s(lambda: predict(traces, model, device="cpu")) for _ in range(3)) / (traces.size / HOUR)


def windowed_cost(model: Path) -> float:
    """The definition: all windows of 64 frames through every member, in batches of 8,192 as the published models ask for."""
    import torch

    from tasks.cascade.model import load_model
    from tasks.cascade.network import windowed_rates

    windows = torch.from_numpy(calcium(1, 8192 + 63)[0]).unfold(0, 64, 1)
    members = load_model(model).members(2)
    with torch.inference_mode():
        return cpu_s(lambda: [windowed_rates(windows, weights) for weights in members]) / (len(windows) / HOUR)


def discrete_cost(model: Path) -> float:
    """On smoothed simulated spikes, so that random weights do not decide how many there are."""
    from scipy.ndimage import gaussian_filter1d

    from tasks.cascade.discrete import infer_discrete_spikes

    spikes = np.random.default_rng(0).poisson(0.5 / RATE, (10, FRAMES)).astype(float)
    rates = gaussian_filter1d(spikes, 1.5, axis=1)
    infer_discrete_spikes(rates[:1, :500], model, seed=0)
    return cpu_s(lambda: infer_discrete_spikes(rates, model, seed=0)) / (rates.size / HOUR)


def training_cost() -> float:
    """Microseconds of CPU-time per window: one member for one epoch on simulated neurons, resampling included."""
    from tasks.cascade.training import TrainingConfig, train_member
    from tasks.spikes.ground_truth import Neuron, Trial

    random, frames = np.random.default_rng(0), 6000
    time_s = np.arange(frames) / RATE
    trials = [
        Trial("simulated", f"n{i}", 0, row.astype(float), time_s, np.sort(random.uniform(0, time_s[-1], 100)), RATE)
        for i, row in enumerate(calcium(20, frames) * np.float32(0.1))
    ]
    neurons = [Neuron("simulated", t.neuron, (t,)) for t in trials]
    config = TrainingConfig(sampling_rate=RATE, smoothing=0.05, causal_kernel=True, nr_of_epochs=1)
    began = time.process_time()
    member = train_member(neurons, config, noise_level=2, member=0)
    return 1e6 * (time.process_time() - began) / member.windows


def memory(model: Path, neurons: int) -> float:
    """MB of one `predict`, in a process of its own."""
    command = [sys.executable, "-c", MEMORY, str(model), str(neurons)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_rss_mb() -> float:
    """The largest resident memory of this process; not `ru_maxrss`, which starts at that of the process it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run_cost(model: Path, scratch: Path) -> float:
    """CPU-seconds of the command and all its processes, from nothing to the finished output."""
    traces = calcium(round(NEURON_HOURS * 3), HOUR // 3)
    np.save(scratch / "dff.npy", traces)
    config = scratch / "run.toml"
    config.write_text(f"""task = "cascade"
[input]
path = "{scratch}/dff.npy"
frame_rate = {RATE}
[model]
path = "{model}"
[output]
path = "{scratch}/rates.zarr"
[cluster]
kind = "local"
workers = 2
device = "cpu"
[run]
folder = "{scratch}/rates.run"
""")
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    before = _children_cpu_s()
    command = [str(Path(sys.executable).with_name("blockwise")), "run", str(config)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr, env=environment)
    return (_children_cpu_s() - before) / (traces.size / HOUR)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
