import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import ConfigError, InputError
from blockwise.storage import open_source
from blockwise.storage.placement import Placement
from blockwise.storage.source import ArraySource
from tasks.synful.blobs import whole_nm
from tasks.synful.lookup import voxels_of
from tasks.synful.partners import points
from tasks.synful.segments import map_to_segments, segments_at
from tests.synful.mapped import mapped

SIZE, OFFSET = (40, 4, 4), (400, -80, 12)
IDS = np.random.default_rng(1).integers(0, 2**63, (7, 33, 50), dtype=np.uint64)


def sites(n=400, seed=0):
    """Sites in and around the volume."""
    rng = np.random.default_rng(seed)
    low, high = np.array(OFFSET) - 60, np.array(OFFSET) + np.array(IDS.shape) * SIZE + 60
    return mapped(rng.integers(low, high, (n, 3)), rng.integers(low, high, (n, 3)), np.ones(n))


def one_by_one(partners, end, snap):
    """The segment of every row, looked up singly."""
    found = []
    for p in points(partners, end):
        v = [int(i) for i in snap((p - OFFSET) / np.array(SIZE))]
        inside = all(0 <= i < n for i, n in zip(v, IDS.shape, strict=True))
        found.append(int(IDS[tuple(v)]) if inside else None)
    return found


def source(chunks=(3, 16, 16), data=IDS, reads=None):
    """An open source that books the chunks read."""
    lock = threading.Lock()

    def fetch(slices):
        with lock:
            (reads if reads is not None else []).append(tuple((s.start, s.stop) for s in slices))
        return data[slices]

    return ArraySource("memory", None, data.shape, data.dtype, Placement(("z", "y", "x"), SIZE, OFFSET, ("nm",) * 3), fetch, chunks)


@pytest.mark.parametrize("memory", [1, 10**6])
@pytest.mark.parametrize("chunks", [None, (3, 16, 16), (7, 33, 50), (64, 64, 64)])
@pytest.mark.parametrize(("rounding", "snap"), [("truncate", np.floor), ("cremi", np.rint)])
def test_both_ends_of_every_row(chunks, memory, rounding, snap):
    reads = []
    got = map_to_segments(sites(), source(chunks, reads=reads), rounding=rounding, memory=memory)
    for end in ("pre", "post"):
        assert got[f"segment_{end}"].to_pylist() == one_by_one(sites(), end, snap)
        assert got.schema.field(f"segment_{end}").type == pa.uint64()
    assert len(reads) == len(set(reads)), "a chunk was read twice"


def test_an_array_gives_what_a_source_gives():
    got = map_to_segments(sites(), IDS, voxel_size=SIZE, offset=OFFSET)
    assert got.equals(map_to_segments(sites(), source()))
    assert got.equals(map_to_segments(sites(), np.asfortranarray(IDS), voxel_size=SIZE, offset=OFFSET))


def test_a_file_on_disk(tmp_path):
    import zarr

    array = zarr.create_array(tmp_path / "s.zarr", shape=IDS.shape, chunks=(4, 16, 16), dtype="u8")
    array[:] = IDS
    array.attrs.update({"voxel_size": SIZE, "offset": OFFSET})
    opened = open_source(tmp_path / "s.zarr")
    assert map_to_segments(sites(), opened).equals(map_to_segments(sites(), source()))


def test_chunks_without_a_site_are_not_read():
    reads = []
    one = mapped([[400, -80, 12]], [[440, -80, 12]], [1.0])
    map_to_segments(one, source(reads=reads))
    assert reads == [((0, 3), (0, 16), (0, 16))]


@pytest.mark.parametrize(("z", "found"), [(399, None), (400, 0), (439, 0), (440, 1), (400 + 7 * 40, None)])
def test_a_site_before_the_first_voxel_is_outside(z, found):
    got = segments_at(np.array([[z, -80, 12]]), source(None))
    assert got.to_pylist() == [None if found is None else int(IDS[found, 0, 0])]


@pytest.mark.parametrize("size", [4.4, 4.6, 8.8, 10 / 3, 33.0])
@pytest.mark.parametrize("offset", [0.0, 123.4])
def test_a_site_lies_in_its_voxel_whatever_the_voxel_size(size, offset):
    voxels = np.arange(20_000)
    assert (voxels_of(whole_nm(offset + voxels * size), size, offset) == voxels).all()


def test_background_is_null_when_named():
    ids = np.zeros((1, 1, 2), np.int32)
    ids[..., 1] = 5
    partners = mapped([[0, 0, 0]], [[0, 0, 1]], [1.0])
    assert map_to_segments(partners, ids, voxel_size=(1, 1, 1))["segment_pre"].to_pylist() == [0]
    got = map_to_segments(partners, ids, voxel_size=(1, 1, 1), background=(0,))
    assert [got["segment_pre"].to_pylist(), got["segment_post"].to_pylist()] == [[None], [5]]


def test_an_empty_table():
    got = map_to_segments(sites(0), source())
    assert got.num_rows == 0
    assert got.schema.names[-2:] == ["segment_pre", "segment_post"]


def test_a_new_segmentation_replaces_the_old_one():
    other = source(data=IDS // 2)
    assert map_to_segments(map_to_segments(sites(), source()), other).equals(map_to_segments(sites(), other))


@pytest.mark.parametrize(
    ("segmentation", "options", "error", "says"),
    [
        (IDS, {}, InputError, "give its voxel_size"),
        (IDS[0], {"voxel_size": SIZE}, InputError, r"shape \(33, 50\)"),
        (IDS.astype("f4"), {"voxel_size": SIZE}, InputError, "float32"),
        (np.full((9, 90, 90), -3), {"voxel_size": SIZE, "offset": OFFSET}, InputError, "the id -3"),
        (source(), {"rounding": "up"}, ConfigError, "rounding = 'up'"),
        (source(), {"voxel_size": (40, 0, 4)}, InputError, "sizes above 0"),
    ],
)
def test_refusals(segmentation, options, error, says):
    with pytest.raises(error, match=says):
        map_to_segments(sites(), segmentation, **options)


def test_what_a_read_raises_reaches_the_caller():
    from blockwise.errors import StorageError

    broken = replace(source(), fetch=lambda s: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        map_to_segments(sites(), broken)
    with pytest.raises(StorageError, match="gone"):
        map_to_segments(sites(), replace(source(), fetch=lambda s: Path("gone").read_bytes()))
