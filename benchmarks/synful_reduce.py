"""Ten million partners from parts of blocks to cells, segments, filters and edges, in one process that starts with nothing in memory.

reduce_partners   rows
reduce_rss_mb     largest resident memory of the process, imports included
reduce_s          CPU-seconds of the four stages
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from blockwise.geometry import Domain, Region
from blockwise.grid import Grid, GridSpec
from blockwise.storage import OutputArray
from blockwise.storage.tables import TableParts
from blockwise.testing import run_serially
from tasks.synful.cell_stages import MapSegments, Shuffle
from tasks.synful.cells import Cells
from tasks.synful.collect_stage import Collect, cell_grid
from tasks.synful.filters import FilterOptions
from tasks.synful.options import MapOptions
from tasks.synful.pair_stages import Filter, bucket_count
from tasks.synful.partners import cantor_ids, ordered, schema, table

PARTNERS = int(os.environ.get("PARTNERS", 10**7))
SIZE = (40.0, 4.0, 4.0)
VOLUME = Domain("volume", ("z", "y", "x"), (400, 4000, 4000), SIZE, units=("nm",) * 3)
BLOCKS = Grid(VOLUME, GridSpec((40, 400, 400)))
CELL_UM = 3.2


def figures() -> dict[str, float]:
    """Write the parts here, reduce them in a process of its own."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCRATCH")) as folder:
        write_parts(f"{folder}/out.zarr")
        write_segmentation(f"{folder}/segments.zarr")
        command = [sys.executable, "-m", "benchmarks.synful_reduce", folder]
        found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return found


def parts_of(path: str) -> TableParts:
    return TableParts(path, "parts/partners", schema(), BLOCKS)


def write_parts(path: str) -> None:
    """Partners at random places, the pre site 50 to 150 nm off."""
    parts, random, per_block = parts_of(path), np.random.default_rng(0), PARTNERS // len(BLOCKS)
    parts.create()
    for block in BLOCKS.blocks(np.arange(len(BLOCKS))):
        voxels = random.integers(block.core.begin, block.core.end, (per_block, 3))
        post = voxels * np.array(SIZE)
        pre = post + random.choice([-1, 1], (per_block, 3)) * random.integers(1, 4, (per_block, 3)) * (40, 24, 24)
        parts.write(block, ordered(table(pre, post, random.gamma(4, 25, per_block), cantor_ids(voxels)))).future.result()


def write_segmentation(path: str) -> None:
    """100,000 segments of some hundred nm."""
    shape, chunk = (50, 250, 250), (50, 125, 125)
    array = OutputArray.create(
        path, "seg", shape=shape, dtype="uint64", chunks=chunk, axes=("z", "y", "x"), voxel_size=(320.0, 64.0, 64.0), units=("nm",) * 3
    )
    ids = np.random.default_rng(1).integers(1, 100_000, shape).astype(np.uint64)
    for y in range(0, 250, 125):
        for x in range(0, 250, 125):
            region = Region((0, y, x), (50, y + 125, x + 125))
            array.write(region, ids[region.slices].copy()).future.result()


def reduce(folder: str) -> None:
    """The four stages, one after the other."""
    began, output = time.process_time(), f"{folder}/out.zarr"
    cells = Cells(output, "partners", cell_grid(VOLUME, BLOCKS.spec.shape, CELL_UM))
    segments = MapSegments(cells, MapOptions(segmentation=f"{folder}/segments.zarr", segmentation_variable="seg"))
    buckets = bucket_count(cells.grid)
    shuffle = Shuffle(segments.target, "segment", buckets)
    wishes = FilterOptions(min_score=12, one_per_segment_pair=True, merge_within_nm=150, merge_by="segment")
    last = Filter(shuffle.target, "segment", buckets, wishes)
    for stage in (Collect([parts_of(output)], [], cells, reach=(0, 0, 0), mask=None), segments, shuffle, last):
        run_serially(stage)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    rows = len(BLOCKS) * (PARTNERS // len(BLOCKS))
    print(json.dumps({"reduce_partners": rows, "reduce_rss_mb": peak, "reduce_s": time.process_time() - began}))


if __name__ == "__main__":
    reduce(sys.argv[1])
