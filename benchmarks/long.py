"""`python -m benchmarks.long`: a day of recording through `blockwise run`; one JSON object last.

24 h x 1,000 neurons at 7.5 Hz (synthetic, zarr) with five members; then plan and pilot of 24 h x 10,000 neurons at 30 Hz, a zarr whose
chunks were never written. Takes 20 to 40 minutes on 2 cores; NEURONS makes it smaller. Models: $BLOCKWISE_CASCADE_MODELS is the folder
of the published ones; without it, five members of random weights of the published shape are made for each level.

run_cpu_s_per_108k_frames   CPU-seconds of all processes, start-up included, per 108,000 frames (a neuron-hour at 30 Hz)
worker_rss_over_import_mb   largest resident memory of a worker, less that of a process with the same imports
rss_growth_mb               largest in the last quarter of the run, less the largest in the second
lost                        blocks that are not done at the end
pilot_blocks                blocks that the pilot computed, with their own rows' noise levels
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.cascade_model import five_members
from blockwise.geometry import Region
from blockwise.storage import OutputArray

NEURONS = int(os.environ.get("NEURONS", "1000"))
DAY_S = 24 * 3600
IMPORTS = """import torch, distributed, tensorstore, scipy.signal, blockwise.worker, tasks.cascade.task, psutil
print(psutil.Process().memory_info().rss)"""


def main() -> None:
    """Make the recording, run it, plan the larger one."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True, dir=os.environ.get("SCRATCH")) as folder:
        figures = {**run_day(Path(folder)), **pilot(Path(folder))}
    print(json.dumps({k: round(v, 4) for k, v in figures.items()}))


def run_day(folder: Path) -> dict[str, float]:
    """The synthetic day, run and watched."""
    frames = int(DAY_S * 7.5)
    write_day(folder / "day.zarr", NEURONS, frames)
    config = configuration(folder, "day", five_members(7.5, folder), 7.5, workers=2)
    before = _children_cpu_s()
    command = [str(Path(sys.executable).with_name("blockwise")), "run", str(config), "--json"]
    with (folder / "log").open("w") as log:
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        samples = watch(run)
        status = json.loads(run.communicate()[0])
    base_mb = int(subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True).stdout) / 1e6
    second, last = (max(v for t, v in samples if a <= t / samples[-1][0] <= b) for a, b in ((0.25, 0.5), (0.75, 1.0)))
    return {
        "neurons": NEURONS,
        "run_cpu_s_per_108k_frames": (_children_cpu_s() - before) / (NEURONS * frames / 108_000),
        "worker_rss_over_import_mb": max(v for _, v in samples) - base_mb,
        "rss_growth_mb": last - second,
        "lost": status["blocks"]["total"] - status["blocks"]["done"],
    }


def write_day(path: Path, neurons: int, frames: int, rows: int = 50, columns: int = 50_000) -> None:
    """Noise with decaying transients, drawn once per chunk shape and rolled, so that making it costs less than reading it."""
    array = OutputArray.create(path, "dF_traces", shape=(neurons, frames), dtype="float32", chunks=(rows, columns), axes=("neuron", "time"))
    random = np.random.default_rng(0)
    events = (random.random((rows, columns)) < 0.004).astype(np.float32)
    kernel = np.exp(-np.arange(40) / 6).astype(np.float32)
    chunk = np.apply_along_axis(np.convolve, 1, events, kernel, "same") * 0.3
    chunk = (chunk + random.normal(0, 0.06, chunk.shape)).astype(np.float32)
    for i, row in enumerate(range(0, neurons, rows)):
        for j, column in enumerate(range(0, frames, columns)):
            region = Region((row, column), (min(row + rows, neurons), min(column + columns, frames)))
            future = array.write(region, np.roll(chunk, 997 * i + 131 * j, 1)[: region.shape[0], : region.shape[1]].copy()).future
            assert future is not None
            future.result()


def configuration(folder: Path, name: str, model: Path, frame_rate: float, *, workers: int) -> Path:
    """A configuration for one recording of the folder."""
    file = folder / f"{name}.toml"
    file.write_text(f"""task = "cascade"
[input]
path = "{folder / name}.zarr"
frame_rate = {frame_rate}
[model]
path = "{model}"
[output]
path = "{folder / name}_rates.zarr"
[options]
export = []
[cluster]
workers = {workers}
device = "cpu"
[run]
folder = "{folder / name}.run"
""")
    return file


def watch(run: "subprocess.Popen[str]") -> list[tuple[float, float]]:
    """(seconds, MB of the largest worker) every second until the run ends."""
    samples, began = [(0.0, 0.0)], time.monotonic()
    while run.poll() is None:
        sizes = [_rss_mb(p) for p in psutil.Process(run.pid).children(recursive=True)]
        samples.append((time.monotonic() - began, max(sizes, default=0.0)))
        time.sleep(1)
    return samples


def _rss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def pilot(folder: Path) -> dict[str, float]:
    """Plan and pilot of 24 h x 10,000 neurons at 30 Hz."""
    OutputArray.create(
        folder / "huge.zarr", "dF_traces", shape=(10_000, DAY_S * 30), dtype="float32", chunks=(100, 9_000), axes=("neuron", "time")
    )
    config = configuration(folder, "huge", five_members(30.0, folder), 30.0, workers=2)
    command = [str(Path(sys.executable).with_name("blockwise")), "plan", str(config), "--pilot", "20", "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    found = json.loads(done.stdout)
    return {"pilot_blocks": found["pilot"]["blocks"], "pilot_s": time.perf_counter() - began, "plan_blocks": found["stages"][1]["blocks"]}


if __name__ == "__main__":
    main()
