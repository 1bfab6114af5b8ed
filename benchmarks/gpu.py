"""`python -m benchmarks.gpu`: what one GPU does with Synful's and Cascade's networks; one JSON object last.

Where torch sees no GPU the object says so ({"cuda": false, ...}) and nothing is measured. It takes some two minutes, on the first
visible GPU.

synful_mvox_per_s            output of the U-Net of setup01 through the pipeline of a worker: read, compute, two arrays written to disk
synful_bf16_mvox_per_s       the same in bfloat16
synful_block                 its core, the largest that fits into the free memory
compute_busy                 share of the wall time in which a block was being computed
gpu_busy                     share of the wall time in which the GPU was in use, as nvidia-smi tells
overlap                      seconds of reading, computing and writing per second of wall time; 1 would be one after the other
peak_gpu_mb                  of the memory that torch had allocated
cascade_neuron_hours_per_s   `predict` with five members, 108,000 frames per neuron-hour
cascade_stream_gain          tiles one after the other over tiles whose transfers overlap with computing, in time
upload_gb_per_s              from pinned and from pageable memory
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Domain
from blockwise.gpu_use import meter_of
from blockwise.grid import Block, GridSpec
from blockwise.lease import Lease, Receipt
from blockwise.pipeline import Pipeline
from blockwise.storage import OutputArray, Write
from blockwise.task import Task

SECONDS: float = 20.0
"""What each figure may take; nvidia-smi averages over about one."""
NEURON_HOURS, HOUR = 64, 108_000
MOST_VOXELS = 50_000_000
"""Of a block's core: larger ones gain nothing, and twenty of them shall fit on the disk."""

Array = npt.NDArray[Any]


class Tiles(Task):
    """Blocks of one raw tile, predicted by the U-Net of setup01 with random weights, and stored as Synful stores predictions."""

    name = "tiles"

    def __init__(self, folder: str, core: Sequence[int], blocks: int, precision: str = "f32") -> None:
        from tasks.synful.tiling import Tiling

        self.folder, self.blocks, self.precision = folder, blocks, precision
        self.tiling = Tiling((_setup01().shape,), (core[0], core[1], core[2]))
        self.shape = (core[0] * blocks, *core[1:])

    def domains(self) -> Sequence[Domain]:
        return [Domain("tiles", ("z", "y", "x"), self.shape)]

    def spec(self) -> GridSpec:
        return self.tiling.spec()

    def prepare(self) -> None:
        core = self.tiling.core
        OutputArray.create(self.folder, "mask", shape=self.shape, dtype="uint8", chunks=core, axes=("z", "y", "x"))
        OutputArray.create(self.folder, "vectors", shape=(3, *self.shape), dtype="int8", chunks=(3, *core), axes=("c", "z", "y", "x"))

    def open(self) -> None:
        self.arrays = [OutputArray.open(self.folder, n) for n in ("mask", "vectors")]
        read = [n + b + a for n, (b, a) in zip(self.tiling.core, self.tiling.context, strict=True)]
        self.raw = np.random.default_rng(0).integers(0, 256, read, np.uint8)

    def setup(self, device: str) -> Any:
        import torch

        from tasks.synful.network import UNet
        from tasks.synful.predictor import Predictor

        torch.manual_seed(0)
        network = (
            UNet(_setup01(), activation="sigmoid")
            .to(device=device, dtype=torch.bfloat16 if self.precision == "bf16" else torch.float32)
            .eval()
        )
        return Predictor((network,), (("mask", "vectors"),), self.tiling, device)

    def read(self, block: Block) -> Array:
        return self.raw.astype(np.float32) * np.float32(2 / 255) - 1

    def compute(self, inputs: Array, state: Any) -> tuple[Array, Array]:
        mask, vectors = state(inputs, self.tiling.core)
        return (mask * 255).astype(np.uint8), (vectors * np.float32(0.5)).astype(np.int8)

    def write(self, block: Block, result: tuple[Array, Array]) -> Sequence[Write]:
        from blockwise.geometry import Region

        places = (block.core, Region((0, *block.core.begin), (3, *block.core.end)))
        return [a.write(r, v) for a, r, v in zip(self.arrays, places, result, strict=True)]


def _setup01() -> Any:
    from benchmarks.synful_network import SETUP01

    return SETUP01


def figures(device: str, seconds: float = SECONDS, neurons: int = NEURON_HOURS, most_voxels: int = MOST_VOXELS) -> dict[str, object]:
    """All figures of one device; on a CPU those that it has."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        found = synful(Path(scratch), device, seconds, most_voxels)
        return found | cascade(Path(scratch), device, neurons) | transfers(device)


# --- Synful


def synful(scratch: Path, device: str, seconds: float, most_voxels: int) -> dict[str, object]:
    """Throughput in both precisions, and what the pipeline makes of float32."""
    core = largest_core(device, most_voxels)
    bf16 = driven(scratch / "bf16", core, device, seconds / 2, "bf16")[0]
    _reset_peak(device)
    with watched(device) as busy:
        rate, receipt = driven(scratch / "f32", core, device, seconds, "f32")
    spent = float((receipt.read_s + receipt.compute_s + receipt.write_s).sum())
    return {
        "synful_mvox_per_s": round(rate, 3),
        "synful_bf16_mvox_per_s": round(bf16, 3),
        "synful_block": list(core),
        "compute_busy": round(float(receipt.compute_s.sum()) / receipt.wall_s, 3),
        "overlap": round(spent / receipt.wall_s, 3),
        "gpu_busy": round(float(np.mean(busy)), 3) if busy else None,
        "peak_gpu_mb": _peak_mb(device),
    }


def largest_core(device: str, most_voxels: int) -> tuple[int, int, int]:
    """The core of an aligned block that fits into the free memory and is no larger than asked."""
    from blockwise.cluster.devices import free_bytes
    from tasks.synful.auto import GPU_SHARE
    from tasks.synful.memory import largest_input

    memory = int(free_bytes(device) * GPU_SHARE) if device.startswith("cuda") else 4_000_000_000
    side = max(16, round((most_voxels / 4) ** (1 / 3)))
    return largest_input(memory, _setup01().shape, domain=(side, 2 * side, 2 * side), device=device)


def driven(folder: Path, core: Sequence[int], device: str, seconds: float, precision: str) -> tuple[float, Receipt]:
    """Mvoxels per second of a worker's pipeline over about so many seconds, and the receipt; one block warms up."""
    task = Tiles(str(folder / "out.zarr"), core, 1000, precision)
    folder.mkdir()
    task.prepare()
    pipeline = Pipeline(task, device=device)
    try:
        one_s = min(pipeline.run(Lease(n, "tiles", np.array([n]))).wall_s for n in range(2))
        count = max(2, min(20, round(seconds / one_s)))
        receipt = pipeline.run(Lease(2, "tiles", np.arange(2, 2 + count)))
    finally:
        pipeline.close()
    if receipt.errors:
        raise RuntimeError(receipt.errors[0].traceback)
    return count * prod(core) / 1e6 / receipt.wall_s, receipt


@contextmanager
def watched(device: str) -> Iterator[list[float]]:
    """Shares of time in which the GPU was in use meanwhile, as nvidia-smi tells now and then."""
    meter, found, over = meter_of(device), list[float](), threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            if (share := meter.now().get("gpu")) is not None:
                found.append(share)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _reset_peak(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mb(device: str) -> int | None:
    import torch

    return round(torch.cuda.max_memory_allocated(device) / 1e6) if device.startswith("cuda") else None


# --- Cascade and transfers


def cascade(scratch: Path, device: str, neurons: int) -> dict[str, object]:
    """`predict` of so many neuron-hours, and what overlapping transfers save."""
    from benchmarks.cascade import RATE, calcium
    from benchmarks.cascade_model import five_members
    from tasks.cascade.engines import frames_at_once, load_ensemble, stream
    from tasks.cascade.inference import predict
    from tasks.cascade.model import load_model

    model = load_model(five_members(RATE, scratch))
    traces = np.repeat(calcium(1, HOUR), neurons, axis=0)
    noise = np.full(neurons, float(next(iter(model.levels))))
    predict(traces[:1], model, device=device, noise=noise[:1])
    spent = timed(lambda: predict(traces, model, device=device, noise=noise))
    size = frames_at_once("torch", device) // 8
    tiles = np.array_split(traces.reshape(-1), max(2, traces.size // size))
    ensemble = load_ensemble(model.members(next(iter(model.levels))), "torch", device)
    singly = min(timed(lambda: [ensemble(t) for t in tiles]) for _ in range(2))
    streaming = min(timed(lambda: list(stream(ensemble, tiles))) for _ in range(2))
    return {"cascade_neuron_hours_per_s": round(neurons / spent, 3), "cascade_stream_gain": round(singly / streaming, 3)}


def transfers(device: str) -> dict[str, object]:
    """GB per second to the GPU."""
    import torch

    from tasks.torch_device import upload

    if not device.startswith("cuda"):
        return {}
    array = np.zeros(64 << 20, np.float32)
    pinned = torch.from_numpy(array).pin_memory()

    def finished(copy: Callable[[], Any]) -> float:
        def both() -> None:
            copy()
            torch.cuda.synchronize(device)

        return array.nbytes / 1e9 / min(timed(both) for _ in range(5))

    ways: dict[str, Callable[[], Any]] = {
        "pinned": lambda: pinned.to(device, non_blocking=True),
        "pageable": lambda: torch.from_numpy(array).to(device),
        "as_tasks_do": lambda: upload(array, device),
    }
    return {"upload_gb_per_s": {name: round(finished(way), 2) for name, way in ways.items()}}


def timed(action: Callable[[], Any]) -> float:
    """Seconds of wall time."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> int:
    """Measure the first visible GPU, or say that there is none."""
    import torch

    about: dict[str, object] = {"cuda": torch.cuda.is_available(), "torch": torch.__version__}
    if not torch.cuda.is_available():
        why = "built without CUDA" if torch.version.cuda is None else "no CUDA device is visible to torch"
        print(json.dumps({**about, "why": why, "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES")}))
        return 0
    print(json.dumps({**about, "device": torch.cuda.get_device_name(0), **figures("cuda:0")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
