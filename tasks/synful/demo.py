"""`blockwise demo synful`: simulate an EM volume with known partners, find them with the shipped network, and compare."""

import os
from pathlib import Path

import typer

from tasks.demonstration import draw, run_shown

SHAPE, SEED = (32, 400, 400), 1
"""A volume that the network has not seen: it was trained on the seeds 100 to 109."""

CONFIGURATION = """# Written by `blockwise demo synful`: partners of a simulated volume, with the network that blockwise ships.
task = "synful"

[input]
path = "{folder}/volume.zarr"
variable = "raw"

[model]
path = "synful-demo"

[output]
path = "{folder}/run.zarr"

[options.extract]
threshold = 0.8
score = "sum"
min_score = 8

[options.map]
segmentation = "{folder}/volume.zarr"
segmentation_variable = "segmentation"

[options.evaluate]
truth = "{folder}/truth.parquet"     # a match: within 400 nm at both ends, in the same segments

[blocks]
memory = "150MB"

[cluster]
workers = {workers}
"""


def demo(folder: Path, workers: int) -> None:
    """Simulate, run, print the F-score, draw a section with its partners."""
    write_volume(folder)
    file = folder / "run.toml"
    file.write_text(CONFIGURATION.format(folder=folder, workers=workers))
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
    pq.write_table(made.partners, folder / "truth.partial")
    os.replace(folder / "truth.partial", folder / "truth.parquet")


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
        f"{shape} voxels, {row['true_positives'] + row['false_negatives']} true partners: F-score {row['f_score']:.2f} at 400 nm "
        f"(precision {row['precision']:.2f}, recall {row['recall']:.2f})"
    )
