"""The block that is chosen where none is given: it fits into the memory, and is not refused afterwards."""

import numpy as np
import pytest

from blockwise.config import RunConfig, validated
from blockwise.errors import InputError
from blockwise.geometry import Region
from blockwise.storage import OutputArray
from tasks.synful.memory import peak_bytes
from tasks.synful.task import Synful

SHAPE = (30, 480, 480)


@pytest.fixture
def job(tmp_path):
    """Makes the job of a run of the shipped network with some memory, and no shape of blocks."""
    array = OutputArray.create(
        tmp_path / "raw.zarr", "raw", shape=SHAPE, dtype="uint8", chunks=SHAPE, axes=("z", "y", "x"), voxel_size=(40.0, 8.0, 8.0),
        units=("nm",) * 3,
    )  # fmt: skip
    array.write(Region((0, 0, 0), SHAPE), np.zeros(SHAPE, np.uint8)).future.result()

    def make(memory, **options):
        values = {
            "task": "synful",
            "input": {"path": str(tmp_path / "raw.zarr")},
            "model": {"path": "synful-demo"},
            "output": {"path": str(tmp_path / "out.zarr")},
            "blocks": {"memory": memory},
            "cluster": {"device": "cpu"},
            "options": options,
        }
        return Synful.from_config(validated(RunConfig, values)).job

    return make


@pytest.mark.parametrize("memory_mb", [200, 300, 2000])
@pytest.mark.parametrize("options", [{}, {"mode": "stored"}, {"extract": {"context": 300}}])
def test_the_chosen_block_fits_and_is_taken(job, memory_mb, options):
    made = job(f"{memory_mb}MB", **options)
    inputs = [n + sum(c) for n, c in zip(made.tiling.spec().shape, made.tiling.spec().context, strict=True)]
    assert peak_bytes(made.networks[0].shape, inputs) <= memory_mb * 1e6
    assert all(c >= h for c, h in zip(made.core, made.halo, strict=True))


def test_a_block_is_not_context_for_the_most_part(job):
    assert job("150MB").core == (15, 99, 126)


def test_too_little_memory_is_told_with_both_numbers(job):
    with pytest.raises(InputError, match=r"40 MB of memory: .* needs \d+ MB: set \[blocks\] memory to that at least"):
        job("40MB", extract={"context": 300})
