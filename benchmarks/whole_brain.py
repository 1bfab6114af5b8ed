"""`python -m benchmarks.whole_brain`: a whole fly brain from blocks to GPU-days, bytes and cost, out of benchmarks/results; JSON last.

With `--write` the table in docs/scale.md is written anew. What is not measured is an input, and stands in `Brain` or `Prices`.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

from tasks.synful.parameters import NetworkParameters
from tasks.synful.partners import schema

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- table of benchmarks.whole_brain -->", "<!-- end of table -->"
SETUP01 = NetworkParameters(4, 5, ((1, 3, 3), (1, 3, 3), (3, 3, 3)))
DAY_S = 86_400
DASK_MS_PER_LEASE: float = 2.6
"""CPU of Dask's client and scheduler, measured with two workers."""


@dataclass(frozen=True)
class Brain:
    """What is assumed of FAFB: tissue in um^3 (about 8 x 10^7, Zheng et al. 2018), voxel in nm (z, y, x), partners of the published set."""

    tissue_um3: float = 8e7
    voxel_nm: tuple[float, float, float] = (40, 4, 4)
    partners: float = 244e6
    gpus: int = 1_000


@dataclass(frozen=True)
class Prices:
    """What is assumed of machines, in dollars: put your own."""

    gpu_hour: float = 2.0
    core_hour: float = 0.04


def measured() -> dict[str, dict[str, Any]]:
    """The results of the benchmarks by name, those that there are."""
    files = (ROOT / "benchmarks" / "results").glob("*.json")
    return {f.stem: json.loads(f.read_text()) for f in files}


def figures(results: Mapping[str, Mapping[str, Any]], brain: Brain | None = None, prices: Prices | None = None) -> dict[str, float | None]:
    """Every number of the page by name; None where a measurement it needs is missing."""
    brain, prices = brain or Brain(), prices or Prices()
    synful, scale, gpu = results["synful"], results["scale"], results.get("gpu", {})
    mvox = brain.tissue_um3 * 1e9 / prod(brain.voxel_nm) / 1e6
    shape = SETUP01.shape
    core, read = prod(shape.output_shape(synful["unet_auto_input"])), prod(synful["unet_auto_input"])
    blocks = ceil(mvox * 1e6 / core)
    cpu_days = mvox * synful["unet_cpu_s_per_mvox"]["auto"] / DAY_S
    rate = gpu.get("synful_mvox_per_s")
    gpu_days = mvox / rate / DAY_S if rate else None
    row_bytes = sum(field.type.bit_width for field in schema()) // 8
    return {
        "mvox": mvox,
        "block_mvox": core / 1e6,
        "blocks": blocks,
        "read_tb": blocks * read / 1e12,
        "network_core_days": cpu_days,
        "network_core_cost": cpu_days * 24 * prices.core_hour,
        "gpu_mvox_per_s": rate,
        "gpu_days": gpu_days,
        "wall_days": gpu_days / brain.gpus if gpu_days else None,
        "read_gb_per_s": blocks * read / 1e9 / (gpu_days / brain.gpus * DAY_S) if gpu_days else None,
        "gpu_cost": gpu_days * 24 * prices.gpu_hour if gpu_days else None,
        "components_core_days": mvox * synful["cc_cpu_ms_per_mvox"] / 1e3 / DAY_S,
        "reduce_core_s": brain.partners / synful["reduce_partners"] * synful["reduce_s"],
        "partners_gb": brain.partners * row_bytes / 1e9,
        "stored_tb": mvox * 1e6 * 4 / 1e12,
        "driver_core_s": blocks * (scale["driver_ms_per_lease"] + DASK_MS_PER_LEASE) / 1e3,
        "ledger_mb": blocks / scale["blocks"] * scale["ledger_mb"],
        "small_blocks": scale["blocks"],
        "small_driver_core_s": scale["blocks"] * scale["driver_us_per_block"] / 1e6,
        "small_ledger_mb": scale["ledger_mb"],
    }


ROWS: tuple[tuple[str, str, str], ...] = (
    ("mvox", "voxels of tissue", "tissue_um3 / voxel, in Mvoxel"),
    ("block_mvox", "a block, Mvoxel", "what setup01 gives of the input that 4 GB hold"),
    ("blocks", "blocks", "voxels / block"),
    ("read_tb", "read, TB", "blocks x input, 1 byte per voxel: context is read again"),
    ("network_core_days", "network on CPU cores, core-days", "voxels x unet_cpu_s_per_mvox"),
    ("network_core_cost", "the same, dollars", "core-days x 24 x core_hour"),
    ("gpu_mvox_per_s", "network on one GPU, Mvoxel/s", "synful_mvox_per_s of `python -m benchmarks.gpu`"),
    ("gpu_days", "network on GPUs, GPU-days", "voxels / synful_mvox_per_s / 86,400"),
    ("wall_days", "on 1,000 GPUs, days", "GPU-days / 1,000"),
    ("read_gb_per_s", "storage must give them, GB/s", "read / time"),
    ("gpu_cost", "the same, dollars", "GPU-days x 24 x gpu_hour"),
    ("components_core_days", "components, core-days", "voxels x cc_cpu_ms_per_mvox"),
    ("reduce_core_s", "partners to one table, core-seconds", "partners x reduce_s / reduce_partners"),
    ("partners_gb", "table of partners, GB before compression", "partners x bytes of a row"),
    ("stored_tb", "predictions, if they were kept, TB", "4 bytes per voxel"),
    ("driver_core_s", "driver with Dask, core-seconds", "blocks x (driver_ms_per_lease + 2.6 ms): a lease for each, at worst"),
    ("ledger_mb", "ledger, MB", "blocks x ledger_mb of the simulation / its blocks"),
    ("small_blocks", "blocks, were they small", "as simulated"),
    ("small_driver_core_s", "driver for those, core-seconds", "measured"),
    ("small_ledger_mb", "ledger for those, MB", "measured"),
)


def shown(value: float | None) -> str:
    """Three figures, thousands parted; numbers from 1,000 on are whole."""
    if value is None:
        return "not measured"
    if abs(value) < 1_000:
        return f"{value:.3g}"
    digits = len(str(int(abs(value))))
    return f"{round(value, 3 - digits):,.0f}"


def table(found: Mapping[str, float | None]) -> str:
    """The rows of the page, as Markdown."""
    lines = ["| what | how much | how it is computed |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {shown(found[key])} | {how} |" for key, what, how in ROWS)])


def written(page: str, found: Mapping[str, float | None]) -> str:
    """The page with the table anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{after}"


def main() -> None:
    """Print the numbers; with `--write`, write them into the page."""
    found = figures(measured())
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written(PAGE.read_text(), found))
    print(table(found), file=sys.stderr)
    print(json.dumps({**asdict(Brain()), **asdict(Prices()), **found}))


if __name__ == "__main__":
    main()
