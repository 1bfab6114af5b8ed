import json
import multiprocessing
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockwise.errors import AlignmentError, FingerprintMismatch, InputError, MissingError, PlanRefused, StorageError
from blockwise.geometry import Domain, Region
from blockwise.grid import Grid, GridSpec
from blockwise.storage import OutputArray, create_group, group_attributes, open_source, output, set_group_attributes, sweep_locks
from blockwise.storage.output import FLAT_UNITS

LAYOUT = {"shape": (10, 7), "dtype": "float32", "chunks": (4, 7), "axes": ("neuron", "time"), "fill_value": np.nan}
VOLUME = {"shape": (6, 10, 9), "dtype": "uint8", "chunks": (2, 4, 4), "shards": (4, 8, 4), "axes": ("z", "y", "x")}


def chunk_files(folder):
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file() and f.name != "zarr.json" and not f.name.endswith(".__lock")
    }


def write_all(array, data, order=None):
    grid = Grid(Domain("d", array.axes, array.shape), GridSpec(array.unit))
    blocks = [grid.block(i) for i in range(len(grid))]
    writes = [array.write(b.core, data[b.core.slices]) for b in (order(blocks) if order else blocks)]
    for write in writes:
        write.future.result()


@pytest.mark.parametrize("layout", [LAYOUT, VOLUME], ids=["traces", "sharded volume"])
def test_what_is_written_is_read_by_all(tmp_path, layout):
    array = OutputArray.create(tmp_path / "out.zarr", "rates", **layout)
    data = np.arange(array.store.size).reshape(array.shape).astype(array.dtype)
    write_all(array, data)
    name = "rates/0" if layout is VOLUME else "rates"
    assert np.array_equal(OutputArray.open(tmp_path / "out.zarr", "rates").read(Region((0,) * data.ndim, data.shape)), data)
    assert np.array_equal(zarr.open(tmp_path / "out.zarr", mode="r")[name][...], data)
    assert open_source(tmp_path / "out.zarr").axes == layout["axes"]


def test_the_files_say_how_they_are_coded(tmp_path):
    OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT)
    document = json.loads((tmp_path / "out.zarr/rates/zarr.json").read_text())
    assert [c["name"] for c in document["codecs"]] == ["bytes", "zstd", "crc32c"]
    assert document["dimension_names"] == ["neuron", "time"]
    assert document["fill_value"] == "NaN"


def test_create_keeps_what_is_there_and_writes_nothing(tmp_path):
    array = OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT)
    write_all(array, np.ones((10, 7), np.float32))
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")}
    again = OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT, attributes={"of": "a later version"})
    assert again.read(Region((0, 0), (10, 7))).sum() == 70
    assert before == {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (10, 8)}, r"shape is \[10, 7\], the plan wants \[10, 8\]"),
        ({"chunks": (2, 7)}, r"chunk_grid is \[4, 7\], the plan wants \[2, 7\]"),
        ({"dtype": "float64"}, 'data_type is "float32", the plan wants "float64"'),
        ({"fill_value": 0}, r'fill_value is "NaN", the plan wants 0.0'),
        ({"voxel_size": (1, 0.1)}, r"voxel_size is \[1.0, 1.0\], the plan wants \[1.0, 0.1\]"),
        ({"shards": (8, 7)}, "codecs is"),
    ],
)
def test_another_layout_is_refused(tmp_path, change, message):
    OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT)
    with pytest.raises(FingerprintMismatch, match=message):
        OutputArray.create(tmp_path / "out.zarr", "rates", **(LAYOUT | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": (6, 7)}, "must be multiples of chunks"),
        ({"chunks": (4,)}, "differ in length"),
        ({"chunks": (0, 7)}, "at least 1"),
        ({"dtype": "uint8"}, "cannot hold an array of uint8 with fill value nan"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_before_anything_is_made(tmp_path, change, message):
    with pytest.raises(PlanRefused, match=message):
        OutputArray.create(tmp_path / "out.zarr", "rates", **(LAYOUT | change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("begin", "end", "axis"),
    [((0, 0, 0), (3, 8, 4), "z"), ((0, 4, 0), (4, 8, 4), "y"), ((0, 0, 4), (4, 8, 6), "x"), ((4, 8, 2), (6, 10, 9), "x")],
)
def test_part_of_a_shard_is_refused(tmp_path, begin, end, axis):
    array = OutputArray.create(tmp_path / "out.zarr", "v", **VOLUME)
    region = Region(begin, end)
    with pytest.raises(
        AlignmentError, match=rf"axis '{axis}': voxels \d+..\d+ cover part of a chunk or shard of {array.unit['zyx'.index(axis)]}"
    ):
        array.write(region, np.zeros(region.shape, np.uint8))
    assert not chunk_files(tmp_path / "out.zarr")


def test_a_region_may_end_at_the_border_or_span_several_shards(tmp_path):
    array = OutputArray.create(tmp_path / "out.zarr", "v", **VOLUME)
    for region in (Region((4, 8, 8), (6, 10, 9)), Region((0, 0, 0), (4, 10, 8))):
        array.write(region, np.ones(region.shape, np.uint8)).future.result()
        assert array.complete(region)
    assert len(chunk_files(tmp_path / "out.zarr")) == 5


@pytest.mark.parametrize(
    ("region", "data", "message"),
    [
        (Region((8, 0), (12, 7)), np.zeros((4, 7), np.float32), "leaves"),
        (Region((0, 0), (4, 7)), np.zeros((4, 6), np.float32), r"\(4, 6\) float32 for \(4, 7\) float32"),
        (Region((0, 0), (4, 7)), np.zeros((4, 7)), "float64 for"),
    ],
)
def test_data_that_does_not_fit_is_refused(tmp_path, region, data, message):
    array = OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT)
    with pytest.raises(InputError, match=message):
        array.write(region, data)


@pytest.mark.parametrize(("layout", "value"), [(LAYOUT, np.nan), (VOLUME, 0)], ids=["NaN", "zero, sharded"])
def test_a_block_of_fill_value_is_stored_and_complete(tmp_path, layout, value):
    array = OutputArray.create(tmp_path / "out.zarr", "a", **layout)
    core = Region((0,) * len(array.shape), array.unit)
    assert not array.complete(core)
    array.write(core, np.full(array.unit, value, array.dtype)).future.result()
    assert array.complete(core)
    assert not array.complete(Region(core.begin, array.shape))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    chunk=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    per_shard=st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 2**31),
)
def test_cores_in_any_order_are_the_whole_array(tmp_path_factory, shape, chunk, per_shard, seed):
    folder = tmp_path_factory.mktemp("any-order")
    shards = per_shard and tuple(c * n for c, n in zip(chunk, per_shard, strict=True))
    data = np.random.default_rng(seed).integers(0, 3, shape).astype(np.int16)
    layout = {"shape": shape, "dtype": "int16", "chunks": chunk, "shards": shards, "axes": ("neuron", "time")}
    blocks, whole = (OutputArray.create(folder / f"{n}.zarr", "a", **layout) for n in ("blocks", "whole"))
    write_all(blocks, data, lambda b: random.Random(seed).sample(b + b[:3], len(b + b[:3])))
    everything = Region((0, 0), shape)
    whole.write(everything, data).future.result()
    assert blocks.complete(everything)
    assert np.array_equal(blocks.read(everything), data)
    assert chunk_files(folder / "blocks.zarr") == chunk_files(folder / "whole.zarr")


def test_two_writers_of_one_block_at_once_leave_the_same_bytes(tmp_path):
    arrays = [OutputArray.create(tmp_path / "out.zarr", "v", **VOLUME) for _ in range(4)]
    core, data = Region((0, 0, 0), (4, 8, 4)), np.random.default_rng(0).integers(0, 9, (4, 8, 4)).astype(np.uint8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda a: a.write(core, data).future.result(), arrays * 10))
    assert np.array_equal(arrays[0].read(core), data)
    assert len(chunk_files(tmp_path / "out.zarr")) == 1


def _write_for_ever(path, seed):
    array = OutputArray.open(path, "v")
    data = np.random.default_rng(0).integers(0, 9, array.shape).astype(np.uint8)
    while True:
        write_all(array, data, lambda b: random.Random(seed).sample(b, len(b)))


def test_killed_writers_leave_whole_chunks_and_locks_only(tmp_path):
    everything = Region((0, 0, 0), VOLUME["shape"])
    array = OutputArray.create(tmp_path / "out.zarr", "v", **VOLUME)
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_for_ever, args=(tmp_path / "out.zarr", seed), daemon=True) for seed in range(2)]
    for writer in writers:
        writer.start()
    while not array.complete(everything):
        assert all(w.is_alive() for w in writers)
    for writer in writers:
        writer.kill()
        writer.join()
    assert np.array_equal(array.read(everything), np.random.default_rng(0).integers(0, 9, array.shape).astype(np.uint8))
    left = [f for f in tmp_path.rglob("*") if f.is_file() and not f.name.startswith(("c.", "zarr.json"))]
    assert not left
    sweep_locks(tmp_path, older_s=0)
    assert not list(tmp_path.rglob("*.__lock"))


def test_a_failing_write_comes_as_a_storage_error_with_errno(tmp_path):
    array = OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT)
    shutil.rmtree(tmp_path / "out.zarr/rates")
    (tmp_path / "out.zarr/rates").write_text("a file in the way")
    write = array.write(Region((0, 0), (4, 7)), np.zeros((4, 7), np.float32))
    with pytest.raises(StorageError, match=r"cannot write.*Not a directory") as caught:
        write.future.result()
    assert caught.value.errno == 20


def test_a_flipped_bit_is_found_by_reading(tmp_path):
    array = OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT)
    write_all(array, np.ones((10, 7), np.float32))
    file = tmp_path / "out.zarr/rates/c.0.0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StorageError, match="cannot read"):
        array.read(Region((0, 0), (4, 7)))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b[:8], lambda b: b""]
)
@pytest.mark.parametrize("region", [Region((0, 0), (4, 5)), Region((4, 5), (6, 10))], ids=["inside", "at the border"])
def test_a_damaged_chunk_is_written_over(tmp_path, region, damage):
    """A chunk at the border holds more than the array, and would be read first."""
    array = OutputArray.create(str(tmp_path / "o.zarr"), "x", shape=(6, 10), dtype="float32", chunks=(4, 5), axes=("n", "t"))
    data = np.ones(region.shape, np.float32)
    array.write(region, data).future.result()
    (file,) = map(Path, array.files(region))
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    array.write(region, data).future.result()
    assert file.read_bytes() == whole


def test_many_chunks_lie_in_folders_made_beforehand(tmp_path):
    layout = LAYOUT | {"shape": (3, FLAT_UNITS), "chunks": (1, 1)}
    array = OutputArray.create(tmp_path / "out.zarr", "rates", **layout)
    assert sorted(f.name for f in (tmp_path / "out.zarr/rates/c").iterdir()) == ["0", "1", "2"]
    core = Region((2, 5), (3, 6))
    array.write(core, np.ones((1, 1), np.float32)).future.result()
    assert array.complete(core)
    assert (tmp_path / "out.zarr/rates/c/2/5").is_file()


@pytest.mark.parametrize("killed_before", ["group", "array metadata"])
def test_create_after_a_crash_in_the_middle_of_create(tmp_path, monkeypatch, killed_before):
    steps = {"group": 0, "array metadata": 1}[killed_before]
    put, calls = output._put, []

    def dying(folder, document):
        calls.append(folder)
        if len(calls) > steps:
            raise KeyboardInterrupt
        put(folder, document)

    monkeypatch.setattr(output, "_put", dying)
    with pytest.raises(KeyboardInterrupt):
        OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT)
    monkeypatch.setattr(output, "_put", put)
    with pytest.raises(MissingError, match="no output array 'rates'"):
        OutputArray.open(tmp_path / "out.zarr", "rates")
    write_all(OutputArray.create(tmp_path / "out.zarr", "rates", **LAYOUT), np.ones((10, 7), np.float32))


def test_volumes_carry_ome_ngff(tmp_path):
    layout = VOLUME | {"shape": (2, 6, 10, 9), "chunks": (1, 2, 4, 4), "shards": None, "axes": ("c", "z", "y", "x")}
    layout |= {"voxel_size": (1, 40, 4, 4), "offset": (0, 80, 0, 12), "units": ("", "nm", "nm", "nm")}
    OutputArray.create(tmp_path / "out.zarr", "seg/v", **layout)
    ome = zarr.open_group(tmp_path / "out.zarr/seg/v", mode="r").attrs["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert image["axes"][0] == {"name": "c", "type": "channel"}
    assert image["axes"][1] == {"name": "z", "type": "space", "unit": "nanometer"}
    assert image["datasets"] == [
        {
            "path": "0",
            "coordinateTransformations": [
                {"type": "scale", "scale": [1, 40, 4, 4]},
                {"type": "translation", "translation": [0, 80, 0, 12]},
            ],
        }
    ]
    source = open_source(tmp_path / "out.zarr", "seg/v")
    assert (source.axes, source.voxel_size, source.offset, source.units) == tuple(
        layout[k] for k in ("axes", "voxel_size", "offset", "units")
    )


def test_world_geometry_of_traces_is_read_back(tmp_path):
    OutputArray.create(tmp_path / "out.zarr", "set/rates", **LAYOUT, voxel_size=(1, 1 / 30), offset=(0, 2), units=("", "s"))
    source = open_source(tmp_path / "out.zarr")
    assert (source.variable, source.axes) == ("set/rates", ("neuron", "time"))
    assert (source.voxel_size, source.offset, source.units) == ((1, 1 / 30), (0, 2), ("", "s"))


def test_attributes_are_replaced_in_one_step(tmp_path):
    path = tmp_path / "out.zarr"
    assert group_attributes(path) == {}
    array = OutputArray.create(path, "rates", **LAYOUT, attributes={"model": "abc"})
    array.set_attributes({"level": 2})
    assert {"model": "abc", "level": 2}.items() <= OutputArray.open(path, "rates").attributes.items()
    set_group_attributes(path, {"run": "one"})
    stamp = (path / "zarr.json").stat().st_mtime_ns
    set_group_attributes(path, {"run": "one"})
    assert (path / "zarr.json").stat().st_mtime_ns == stamp
    assert group_attributes(path) == {"run": "one"} == dict(zarr.open_group(path, mode="r").attrs)
    assert not list(path.glob(".*.partial"))


def test_what_is_no_output_is_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    with pytest.raises(PlanRefused, match="no zarr v3 group"):
        OutputArray.create(tmp_path / "thesis", "rates", **LAYOUT)
    with pytest.raises(StorageError, match="write locally, then copy"):
        create_group("s3://bucket/out.zarr")
    with pytest.raises(MissingError, match="make it with create_group"):
        set_group_attributes(tmp_path / "none.zarr", {"a": 1})
    OutputArray.create(tmp_path / "a.zarr", "x", **LAYOUT)
    with pytest.raises(PlanRefused, match="a zarr array, not a group"):
        create_group(tmp_path / "a.zarr/x")


def test_importing_the_room_is_cheap():
    code = "import sys, blockwise.storage; print([m for m in ('tensorstore', 'zarr', 'h5py', 'scipy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
