"""Precomputed annotations, read back by the published description of the format: by id, by neuron, and by place at every level."""

import numpy as np
import pyarrow as pa
import pytest

from tasks.synful.formats import annotations, shards
from tasks.synful.formats.annotations import write_annotations
from tasks.synful.partners import points, table
from tests.synful.formats.examples import as_data_set, partners
from tests.synful.formats.precomputed import Annotations


@pytest.fixture(scope="module", params=["one shard", "many"])
def written(request, tmp_path_factory):
    """3,000 partners in two blobs of very different density, and the folder; with small shards where many are wanted."""
    folder, rows = tmp_path_factory.mktemp("annotations"), partners(3000, mapped=True)
    at = rows.schema.get_field_index("post_x")
    for column in ("pre_x", "post_x"):
        at = rows.schema.get_field_index(column)
        rows = rows.set_column(at, column, pa.array(rows[column].to_numpy() * np.where(np.arange(3000) % 5 == 0, 40, 1)))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "many":
            patch.setattr(shards, "SHARD_ROWS", 128)
            patch.setattr(annotations, "SHARD_ROWS", 128)
            patch.setattr(shards, "MINISHARD_ROWS", 8)
        assert write_annotations(as_data_set(rows, folder / "rows.parquet"), folder / "a", limit=100) == 3000
    return rows, Annotations(folder / "a"), request.param


def lines(rows):
    """Id -> both sites x y z, and the score, float32."""
    values = np.hstack([points(rows, "pre")[:, ::-1], points(rows, "post")[:, ::-1], rows["score"].to_numpy()[:, None]]).astype(np.float32)
    return dict(zip(rows["id"].to_pylist(), values, strict=True))


def assert_equal(found, wanted):
    assert set(found) == set(wanted)
    assert all(np.array_equal(found[k], wanted[k]) for k in wanted)


def test_by_id(written):
    rows, found, shards_wanted = written
    sharding = found.info["by_id"]["sharding"]
    assert (sharding["shard_bits"] > 3) == (shards_wanted == "many")
    assert sharding["minishard_bits"] > 3
    mine = found.by_id()
    assert_equal({k: v for k, (v, _) in mine.items()}, lines(rows))
    for row in rows.to_pylist():
        wanted = [() if row[c] is None else (row[c],) for c in ("segment_pre", "segment_post")]
        assert mine[row["id"]][1] == wanted


@pytest.mark.parametrize("end", ["pre", "post"])
def test_by_neuron(written, end):
    rows, found, _ = written
    mine, values = found.related(f"segment_{end}"), lines(rows)
    column = rows[f"segment_{end}"].to_pylist()
    assert set(mine) == {s for s in column if s is not None}
    for segment, some in mine.items():
        assert_equal(some, {i: values[i] for i, s in zip(rows["id"].to_pylist(), column, strict=True) if s == segment})


def test_by_place(written):
    rows, found, _ = written
    entries, values, seen = found.info["spatial"], lines(rows), set()
    lower = np.array(found.info["lower_bound"])
    assert len(entries) > 2
    for number, entry in enumerate(entries):
        cells = found.cells(number)
        mine = {i: v for c in cells.values() for i, v in c.items()}
        assert not seen & set(mine), "an annotation is at one level only"
        seen |= set(mine)
        assert_equal(mine, {i: values[i] for i in mine})
        for i, line in mine.items():
            ends = [tuple(((line[s : s + 3] - lower) // entry["chunk_size"]).astype(int)) for s in (0, 3)]
            assert all(i in cells[e] for e in ends)
    assert seen == set(values)


def test_coarse_levels_hold_a_random_few(written):
    _, found, _ = written
    for number in range(len(found.info["spatial"]) - 1):
        fullest = max(len(c) for c in found.cells(number).values())
        assert 60 < fullest < 200  # 100 are expected; lines that cross a border count twice


def test_grids_cover_the_bounds(written):
    _, found, _ = written
    extent = np.array(found.info["upper_bound"]) - found.info["lower_bound"]
    for entry in found.info["spatial"]:
        np.testing.assert_allclose(np.array(entry["grid_shape"]) * entry["chunk_size"], extent)
    finest = np.array(found.info["spatial"][-1]["chunk_size"])
    assert finest.max() < 3 * finest.min()


def test_one_and_none(tmp_path):
    assert write_annotations(table([[1, 2, 3]], [[4, 5, 6]], [7], [2**64 - 1]), tmp_path / "one") == 1
    assert Annotations(tmp_path / "one").by_id()[2**64 - 1][0].tolist() == [3, 2, 1, 6, 5, 4, 7]
    assert write_annotations(table([], [], [], []), tmp_path / "none") == 0
    assert Annotations(tmp_path / "none").by_id() == {}
    assert Annotations(tmp_path / "none").cells(0) == {}


def test_clefts_are_a_property(tmp_path):
    rows = partners(3).append_column("cleft_score", pa.array([1.5, None, 2.5]))
    write_annotations(rows, tmp_path / "a")
    found = Annotations(tmp_path / "a")
    assert [p["id"] for p in found.info["properties"]] == ["score", "cleft_score"]
    values = [found.by_id()[i][0][-1] for i in rows["id"].to_pylist()]
    np.testing.assert_array_equal(values, [1.5, np.nan, 2.5])


def test_of_several_with_one_id_one_is_found_by_it(tmp_path):
    rows = table([[0, 0, 0]] * 2, [[1, 1, 1], [2, 2, 2]], [1, 2], [5, 5])
    write_annotations(rows, tmp_path / "a")
    assert set(Annotations(tmp_path / "a").by_id()) == {5}
