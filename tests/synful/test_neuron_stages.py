"""From partners in cells to neurons, filters and edges: over cells and buckets the same as over one table."""

import numpy as np
import pyarrow as pa
import pytest

from blockwise.config import RunConfig, validated
from blockwise.errors import ConfigError
from blockwise.geometry import Domain, Region
from blockwise.grid import Grid
from blockwise.storage import OutputArray, open_source
from blockwise.testing import run_serially
from tasks.synful.cell_stages import AssignClefts, MapSegments, MapSkeletons, Shuffle, bucket_of
from tasks.synful.cells import Cells, read_partners
from tasks.synful.clefts import assign_clefts
from tasks.synful.collect_stage import cell_grid
from tasks.synful.edges import edge_list
from tasks.synful.filters import FilterOptions, filter_partners
from tasks.synful.options import MapOptions, SynfulOptions
from tasks.synful.pair_stages import Filter, bucket_count
from tasks.synful.partners import cantor_ids, ordered, points, table
from tasks.synful.segments import map_to_segments
from tests.synful.mapped import mapped as mapped_rows

SIZE, OFFSET = (40.0, 4.0, 4.0), (400.0, 80.0, 0.0)
VOLUME = Domain("volume", ("z", "y", "x"), (24, 96, 96), SIZE, OFFSET, ("nm",) * 3)
FILTER = FilterOptions(min_score=0.2, one_per_segment_pair=False, merge_within_nm=60, merge_by="body", drop_autapses="body")


def write_array(path, name, values):
    array = OutputArray.create(
        path, name, shape=values.shape, dtype=values.dtype, chunks=(8, 32, 32), axes=("z", "y", "x"), voxel_size=SIZE, offset=OFFSET,
        units=("nm",) * 3,
    )  # fmt: skip
    for corner in np.ndindex(3, 3, 3):
        begin = np.array(corner) * (8, 32, 32)
        region = Region(tuple(begin.tolist()), tuple((begin + np.array((8, 32, 32))).tolist()))
        array.write(region, values[region.slices].copy()).future.result()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Partners in cells, a segmentation with a table of bodies, skeletons, clefts."""
    folder, random = tmp_path_factory.mktemp("neurons"), np.random.default_rng(3)
    coarse = random.integers(0, 40, (6, 12, 12))
    write_array(folder / "seg.zarr", "seg", np.kron(coarse, np.ones((4, 8, 8), int)).astype(np.uint64))
    write_array(folder / "clefts.zarr", "clefts", np.kron(random.integers(0, 255, (12, 24, 24)), np.ones((2, 4, 4), int)).astype(np.uint8))
    np.save(folder / "bodies.npy", np.stack([np.arange(41), np.arange(41) // 3 + 100], axis=1).astype(np.uint64))
    voxels = random.integers(0, VOLUME.shape, (4000, 3))
    post = voxels * np.array(SIZE) + OFFSET
    pre = post + random.integers(-20, 20, (4000, 3)) * 4
    rows = ordered(table(pre, post, random.random(4000), cantor_ids(voxels + np.array((10, 20, 0)))))
    cells = Cells(str(folder / "out"), "partners", cell_grid(VOLUME, (3, 12, 12), 0.1))
    cells.create()
    where = np.floor((points(rows, "post") - OFFSET) / SIZE).astype(int)
    for block in cells.grid.blocks(np.arange(len(cells.grid))):
        inside = ((where >= block.core.begin) & (where < block.core.end)).all(axis=1)
        cells.write(block, rows.filter(pa.array(inside))).future.result()
    nodes = random.integers(0, VOLUME.shape, (300, 3)) * np.array(SIZE) + OFFSET
    lines = [f"{i % 12},{z},{y},{x}" for i, (z, y, x) in enumerate(nodes.tolist())]
    (folder / "nodes.csv").write_text("\n".join(["neuron_id,z,y,x", *lines]))
    return folder, cells, rows


def options(folder, **more):
    return MapOptions(segmentation=str(folder / "seg.zarr"), segmentation_variable="seg", bodies=str(folder / "bodies.npy"), **more)


def mapped(place):
    folder, cells, rows = place
    stage = MapSegments(cells, options(folder))
    if not stage.target.folder.exists():
        run_serially(stage)
    whole = map_to_segments(rows, open_source(str(folder / "seg.zarr"), "seg"), background=(0,), bodies=folder / "bodies.npy")
    return stage.target, whole


def test_segments_and_bodies_are_those_of_one_table(place):
    target, whole = mapped(place)
    assert len(target.grid) > 30
    assert ordered(read_partners(target.folder)).equals(ordered(whole))
    assert 0 < whole["segment_post"].null_count < whole.num_rows


def test_another_segmentation_is_another_stage(place):
    folder, cells, _ = place
    one, other = (MapSegments(cells, options(folder, rounding=r)) for r in ("truncate", "cremi"))
    assert one.name != other.name
    assert one.target.folder != other.target.folder


def test_skeletons_and_clefts_add_their_columns(place):
    folder, _, _ = place
    target, whole = mapped(place)
    wishes = options(
        folder, skeletons=str(folder / "nodes.csv"), clefts=str(folder / "clefts.zarr"), clefts_variable="clefts", cleft_threshold=250
    )
    skeletons = MapSkeletons(target, wishes)
    clefts = AssignClefts(skeletons.target, wishes)
    run_serially(skeletons)
    run_serially(clefts)
    found = ordered(read_partners(clefts.target.folder))
    assert set(found.schema.names) > {"skeleton_pre", "skeleton_post", "cleft_id", "cleft_score"}
    volume = open_source(str(folder / "clefts.zarr"), "clefts").read(Region((0, 0, 0), VOLUME.shape))
    wanted = ordered(assign_clefts(whole, volume, SIZE, threshold=250, offset=OFFSET).partners)
    assert found["cleft_score"].equals(wanted["cleft_score"])
    pairs = set(zip(found["cleft_id"].to_pylist(), wanted["cleft_id"].to_pylist(), strict=True))
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs) > 10


@pytest.mark.parametrize("body", [None, 0])
def test_pairs_of_segments_without_bodies_stay_together(body):
    sites = np.arange(60).reshape(20, 3)
    rows = mapped_rows(sites, sites, np.arange(20), segment_pre=5, segment_post=6, body_pre=body, body_post=7)
    assert len(set(bucket_of(rows, "body", 16).tolist())) == 1
    assert len(set(bucket_of(rows.drop_columns(["segment_pre", "segment_post"]), "body", 16).tolist())) > 1


def test_filters_over_buckets_are_those_over_one_table(place):
    target, whole = mapped(place)
    buckets = bucket_count(target.grid)
    assert buckets > 2
    shuffle = Shuffle(target, "body", buckets)
    stage = Filter(shuffle.target, "body", buckets, FILTER)
    run_serially(shuffle)
    run_serially(stage)
    kept, counts = filter_partners(whole, FILTER)
    assert 0 < kept.num_rows < whole.num_rows / 2
    assert ordered(read_partners(stage.kept.folder)).equals(ordered(kept))
    edges = read_partners(stage.edges.folder).sort_by([("pre", "ascending"), ("post", "ascending")])
    wanted = edge_list(kept, by="body")
    assert edges.select(["pre", "post", "count"]).equals(wanted.select(["pre", "post", "count"]))
    figures = stage.finish().figures["filters"]
    assert list(figures.values()) == counts["after"].to_pylist()


def test_a_pair_lies_in_one_bucket():
    rows = table(np.zeros((6, 3)), np.zeros((6, 3)), np.zeros(6), np.arange(6))
    ids = {"body_pre": pa.array([1, 1, 2, None, 5, 1], pa.uint64()), "body_post": pa.array([2, 2, 1, 2, 5, 2], pa.uint64())}
    for name, values in ids.items():
        rows = rows.append_column(name, values)
    bucket = bucket_of(rows, "body", 1 << 20)
    assert bucket[0] == bucket[1] == bucket[5] != bucket[2]


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"filter": {}}, "set map.segmentation"),
        ({"map": {"bodies": "b.npy"}}, "need a segmentation"),
        ({"filter": {"min_scor": 3}, "map": {"segmentation": "s"}}, "did you mean"),
        ({"filter": {"merge_within_nm": 60}, "map": {"segmentation": "s"}}, "set map.bodies, or filter.merge_by = 'segment'"),
        ({"filter": {"drop_autapses": "skeleton"}, "map": {"segmentation": "s"}}, "set map.skeletons, or filter.drop_autapses = 'segment'"),
        (
            {"filter": {"merge_within_nm": 9, "merge_by": "skeleton"}, "map": {"segmentation": "s", "skeletons": "k"}},
            "merge by 'segment' or 'body'",
        ),
    ],
)
def test_filters_without_neurons_are_refused(wishes, words):
    with pytest.raises(ConfigError, match=words):
        validated(RunConfig, {"task": "synful", "options": wishes}).options_as(SynfulOptions)


def test_cells_of_a_grid_meet_a_region(place):
    _, cells, _ = place
    assert isinstance(cells.grid, Grid)
    assert [b.position for b in cells.meeting(Region((0, 0, 0), (1, 1, 1)))] == [(0, 0, 0)]
