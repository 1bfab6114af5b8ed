"""`blockwise demo synful`: simulate an EM volume with known partners, find them with the shipped network, and compare."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tasks.demonstration import draw, run_shown

if TYPE_CHECKING:
    import pyarrow as pa

SHAPE, SEED = (30, 480, 480), 2
"""A volume that the network has not seen: it was trained on the seeds 100 to 109, and judged while it was trained on 1."""
LOOKED_AT_NM = ((80.0, 320.0, 320.0), (1040.0, 3200.0, 3200.0))
"""Offset and shape of the region that partners are looked for in; the network sees real voxels all around it."""

CONFIGURATION = """# Written by `blockwise demo synful`: partners of a simulated volume, with the network that blockwise ships.
task = "synful"

[input]
path = "{folder}/volume.zarr"
variable = "raw"

[model]
path = "synful-demo"

[output]
path = "{folder}/run.zarr"

[options.volume]                     # nm; the network looks a little further than this
roi_offset = {offset}
roi_shape = {shape}

[options.extract]
threshold = 0.95
score = "sum"
min_score = 10

[options.map]
segmentation = "{folder}/volume.zarr"
segmentation_variable = "segmentation"

[options.filter]
drop_autapses = "segment"

[options.evaluate]
truth = "{folder}/truth.parquet"     # a match: within 400 nm at both ends, in the same segments

[blocks]
shape = [13, 207, 207]

[cluster]
workers = {workers}
"""


def configuration(folder: Path, workers: int) -> str:
    """The demo's TOML."""
    offset, shape = (list(map(int, n)) for n in LOOKED_AT_NM)
    return CONFIGURATION.format(folder=folder, workers=workers, offset=offset, shape=shape)


def demo(folder: Path, workers: int) -> None:
    """Simulate, run, print the F-score, draw a section with its partners."""
    write_volume(folder)
    file = folder / "run.toml"
    file.write_text(configuration(folder, workers))
    shown = run_shown(file)
    draw(file, folder / "demo.png")
    _print_results(file, folder)
    if not shown.addresses:
        typer.echo(f"all done before: delete {folder} to see it run again")
    shown.echo(picture=folder / "demo.png", partners=folder / "run.zarr" / "partners.parquet")


def write_volume(folder: Path) -> None:
    """Raw voxels, segmentation and true partners, once."""
    import pyarrow.parquet as pq

    from tasks.synful.simulate import simulate_volume

    if (folder / "truth.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    made = simulate_volume(SHAPE, seed=SEED)
    for name, values in (("raw", made.raw), ("segmentation", made.segmentation)):
        _write(folder / "volume.zarr", name, values, made.voxel_size)
    pq.write_table(_looked_at(made.partners), folder / "truth.partial")
    os.replace(folder / "truth.partial", folder / "truth.parquet")


def _looked_at(partners: "pa.Table") -> "pa.Table":
    """The partners whose post-synaptic site lies in the region."""
    import numpy as np
    import pyarrow as pa

    from tasks.synful.partners import points

    begin, shape = np.asarray(LOOKED_AT_NM)
    way = points(partners, "post") - begin
    return partners.filter(pa.array(((way >= 0) & (way < shape)).all(axis=1)))


def _write(path: Path, name: str, values: "object", voxel_size: tuple[float, float, float]) -> None:
    import numpy as np

    from blockwise.geometry import Region
    from blockwise.storage import OutputArray

    array, chunks = np.asarray(values), (16, 200, 200)
    output = OutputArray.create(
        path, name, shape=array.shape, dtype=array.dtype, chunks=chunks, axes=("z", "y", "x"), voxel_size=voxel_size, units=("nm",) * 3
    )
    for place in np.ndindex(*(-(-n // c) for n, c in zip(array.shape, chunks, strict=True))):
        begin = tuple(i * c for i, c in zip(place, chunks, strict=True))
        region = Region(begin, tuple(min(b + c, n) for b, c, n in zip(begin, chunks, array.shape, strict=True)))
        future = output.write(region, np.ascontiguousarray(array[region.slices])).future
        assert future is not None
        future.result()


def _print_results(file: Path, folder: Path) -> None:
    from blockwise.config import load_config, with_places
    from blockwise.run import load_task
    from tasks.synful.evaluate_stage import Evaluate
    from tasks.synful.options import SynfulOptions

    task = load_task(with_places(load_config(file), file, SynfulOptions))
    judged = next(s for s in task.stages() if isinstance(s, Evaluate))
    row = judged.curve().to_pylist()[0]
    shape = " x ".join(map(str, SHAPE))
    typer.echo(
        f"{shape} voxels, {row['true_positives'] + row['false_negatives']} true partners: F-score {row['f_score']:.2f} at 400 nm, "
        f"both ends in the right neurites (precision {row['precision']:.2f}, recall {row['recall']:.2f})"
    )
