"""Formats against files that the original wrote: CREMI's annotations, the npz per block, the documents of its database."""

import json

import h5py
import numpy as np
import pyarrow as pa
import pytest

from tasks.synful.formats.cremi import read_cremi, write_cremi
from tasks.synful.formats.mongodb import INDEXES, documents, read_mongodb, write_mongodb
from tasks.synful.formats.npz_blocks import read_npz, write_npz
from tasks.synful.partners import ordered, points, table
from tests.ledger.conftest import database, mongodb
from tests.shared import shared

__all__ = ["database", "mongodb"]

OFFSET, SIZE, SHAPE = np.array((4000, 800, 1200)), np.array((40, 4, 4)), np.array((60, 200, 200))
CREMI_OFFSET = np.array((1520, 3644, 3644))
"""What the original's locations are relative to."""

RUNS = {
    "cc50_ctx120": (20, 100, 100),
    "cc50_ctx40": (20, 100, 100),
    "cc50_ctx0": (20, 100, 100),
    "cc50_ctx120_blk_6_50_50": (6, 50, 50),
    "cc50_whole": (60, 200, 200),
    "cc95_thr5_whole": (60, 200, 200),
    "nms40_whole": (60, 200, 200),
}


def of_original(records):
    """The original's records of synapses as a table."""
    rows = [r for r in records if r["pre"] is not None]
    more = {f"{ours}_{end}": pa.array([r[f"{theirs}_{end}"] for r in rows], pa.uint64() if ours == "segment" else pa.int64())
            for ours, theirs in (("segment", "seg"), ("skeleton", "skel")) for end in ("pre", "post")}  # fmt: skip
    return table([r["pre"] for r in rows], [r["post"] for r in rows], [r["score"] for r in rows], [r["id"] for r in rows], more=more)


@pytest.fixture
def synapses():
    return json.loads(shared("golden/synful/cluster/input_synapses.json").read_text())


def test_annotations_of_the_original_are_read(synapses):
    found = read_cremi(shared("golden/synful/cluster/cremi_format_example.hdf"))
    for end in ("pre", "post"):
        assert (points(found, end) - CREMI_OFFSET).tolist() == [s[end] for s in synapses[:5]]
    assert found["annotation_post"].to_pylist() == [1, 3, 5, 7, 9]


def test_annotations_are_written_as_the_original_does(tmp_path, synapses):
    golden = shared("golden/synful/cluster/cremi_format_example.hdf")
    with h5py.File(golden) as theirs:
        placed = [s | {end: (np.array(s[end]) + CREMI_OFFSET).tolist() for end in ("pre", "post")} for s in synapses[:5]]
        write_cremi(of_original(placed), tmp_path / "ours.hdf", offset=CREMI_OFFSET)
        with h5py.File(tmp_path / "ours.hdf") as ours:
            names: list[str] = []
            theirs.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            assert len(names) == 4
            assert ours["annotations"].attrs["offset"].tolist() == theirs["annotations"].attrs["offset"].tolist()
            for name in names:
                mine, wanted = ours[name][:], theirs[name][:]
                assert mine.tolist() == wanted.tolist(), name


@pytest.mark.parametrize("run", RUNS)
def test_blocks_hold_what_the_files_of_the_original_held(tmp_path, run):
    golden, chunk = np.load(shared("golden/synful/blockwise/expected.npz")), np.array(RUNS[run]) * SIZE
    wanted = {k: golden[f"{run}/{k}"] for k in ("block_offset", "id", "pre", "post", "score")}
    rows = ordered(table(wanted["pre"], wanted["post"], wanted["score"], wanted["id"]))
    write_npz(rows, tmp_path / "ours", chunk, region_nm=(OFFSET, OFFSET + SHAPE * SIZE))
    files = sorted(str(f.relative_to(tmp_path / "ours")) for f in (tmp_path / "ours").glob("*/*/*.npz"))
    summary = json.loads(shared("golden/synful/blockwise/summary.json").read_text())[run]
    assert len(files) == summary["n_files"]
    assert set(summary["files"]) <= set(files)
    for offset in np.unique(wanted["block_offset"], axis=0):
        mine = np.load(tmp_path / "ours" / str(offset[0]) / str(offset[1]) / f"{offset[2]}.npz")
        theirs = (wanted["block_offset"] == offset).all(axis=1)
        assert [str(mine[n].dtype) for n in ("ids", "positions", "scores")] == summary["dtypes"]
        found = sorted(zip(mine["ids"].tolist(), mine["positions"].tolist(), mine["scores"].tolist(), strict=True))
        pairs = np.stack([wanted["pre"], wanted["post"]], axis=1)[theirs].tolist()
        scores = wanted["score"][theirs].astype(np.float32).tolist()
        assert found == sorted(zip(wanted["id"][theirs].tolist(), pairs, scores, strict=True))
    assert ordered(read_npz(tmp_path / "ours"))["id"].equals(rows["id"])


def test_documents_have_the_keys_and_types_of_the_original():
    golden = json.loads(shared("golden/synful/map/mongo_schema.json").read_text())
    wanted = golden["example_synapse_doc"]
    source = json.loads(shared("golden/synful/map/input_synapses.json").read_text())
    assert next(s for s in source if s["id"] == wanted["id"])
    columns = {k: wanted[k] for k in wanted}
    pre, post = ([columns[f"{end}_{a}"] for a in "zyx"] for end in ("pre", "post"))
    more = {f"segment_{end}": pa.array([columns[f"{end}_seg_id"]], pa.uint64()) for end in ("pre", "post")}
    more |= {"skeleton_pre": pa.array([None], pa.int64())}
    found = next(documents(table([pre], [post], [columns["score"]], [columns["id"]], more=more)))
    assert found == [wanted]
    assert [type(found[0][k]).__mro__[-2] for k in wanted] == [type(v) for v in wanted.values()]


def test_collections_have_the_indexes_of_the_original(database, synapses):
    from pymongo import MongoClient

    wanted = json.loads(shared("golden/synful/map/mongo_schema.json").read_text())["indexes"]["pred.synapses"]
    assert set(INDEXES) == set(wanted) - {"_id_"}
    rows = of_original(synapses)
    assert write_mongodb(rows, database, "pred") == rows.num_rows
    with MongoClient(database) as client:
        found = client.get_default_database()["pred.synapses"].index_information()
    for name, index in wanted.items():
        assert [list(k) for k in found[name]["key"]] == index["key"]
        assert found[name].get("unique", False) == index.get("unique", False)
    back = read_mongodb(database, "pred")
    for name in ("id", "score", "segment_pre", "segment_post", "skeleton_pre", "skeleton_post"):
        assert back[name].to_pylist() == ordered(rows)[name].to_pylist(), name
