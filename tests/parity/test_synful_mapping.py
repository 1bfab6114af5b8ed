"""Mapping, duplicates and clefts against the original's own output."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest

from tasks.synful.cleft_lines import line_voxels
from tasks.synful.clefts import assign_clefts, label_clefts
from tasks.synful.duplicates import cluster_duplicates, duplicate_mask
from tasks.synful.partners import table
from tasks.synful.skeletons import NODE_COLUMNS, map_to_skeletons, synapse_nodes
from tests.shared import shared


def read(name):
    return json.loads(shared(f"golden/synful/{name}").read_text())


def partners_of(rows):
    """Golden synapses as a table; their coordinates are whole nm."""
    identities = {
        f"{name}_{end}": pa.array([r[f"{short}_{end}"] for r in rows], pa.int64())
        for name, short in (("segment", "seg"), ("skeleton", "skel"))
        for end in ("pre", "post")
    }
    score = [np.nan if r["score"] is None else r["score"] for r in rows]
    return table(*([r[k] for r in rows] for k in ("pre", "post")), score, [r["id"] for r in rows], more=identities)


CLUSTERS = ("mean_250_seg", "max_250_seg", "max_100_seg", "max_250_skel", "max_250_skel_ignore_m2", "max_250_seg_ignore0")


@pytest.mark.parametrize("case", CLUSTERS)
def test_duplicates(case):
    want, partners = read("cluster/expected.json")[case], partners_of(read("cluster/input_synapses.json"))
    kwargs = want["kwargs"]
    by = {"seg": "segment", "skel": "skeleton"}[kwargs["id_type"]]
    options = {"by": by, "ignore_ids": kwargs.get("ignore_ids", ()), "link_coincident": False}
    got = cluster_duplicates(partners, kwargs["dist_threshold"], keep=kwargs["fuse_strategy"], **options)
    kept = {r["id"]: r for r in want["kept"] or read("cluster/input_synapses.json")}
    assert sorted(got["id"].to_pylist()) == sorted(want["kept_ids"])
    assert set(partners["id"].to_pylist()) - set(got["id"].to_pylist()) == set(want["removed_ids"])
    for row in got.to_pylist():
        for end in ("pre", "post"):
            moved = np.subtract([row[f"{end}_{a}"] for a in "zyx"], kept[row["id"]][end])
            assert np.abs(moved).max() <= (0.5 if kwargs["fuse_strategy"] == "mean" else 0), (row, kept[row["id"]])
        assert row["score"] == kept[row["id"]]["score"]


def test_coincident_duplicates_are_linked():
    """The original takes a distance of 0 for no distance: rows 1000 and 1001, at one post site, stay two there."""
    partners = partners_of(read("cluster/input_synapses.json"))
    alone, linked = (duplicate_mask(partners, 250, link_coincident=on) for on in (False, True))
    assert partners.filter(pa.array(alone & ~linked))["id"].to_pylist() == [1000]
    assert not (linked & ~alone).any()


def nodes_of(rows):
    """Golden skeleton nodes as a table."""
    columns = {a: [float(r["position"][i]) for r in rows] for i, a in enumerate("zyx")}
    columns |= {"neuron_id": [r["neuron_id"] for r in rows], "type": [r["type"] for r in rows], "id": [r["id"] for r in rows]}
    return pa.table(columns | {"segment": pa.array([r["seg_id"] for r in rows], pa.uint64())}).select(NODE_COLUMNS)


SPARED = {5: 12, 6: 12, 14: 13}
"""Segment: neuron that the original spares, though it has 3 nodes there or fewer. It removes from the list it iterates over: taking out
neuron 10 of segments 5 and 6 makes it skip 12, taking 11 out of segment 14 makes it skip 13."""

MAPPINGS = ("default", "upper60", "ignore1node", "ignore3nodes", "with_gt", "ignore_seg5")


@pytest.mark.parametrize("case", MAPPINGS)
def test_skeletons(case):
    want = read("map/expected.json")[case]
    kwargs = want["kwargs"]
    nodes = nodes_of(read("map/skeleton_nodes.json"))
    if "gtsyn_db_col" in kwargs:
        nodes = pa.concat_tables([nodes, synapse_nodes(partners_of(read("map/gt_synapses.json")), first_id=9000)])
    got = map_to_skeletons(
        partners_of(read("map/input_synapses.json")),
        nodes,
        num_skel_nodes_ignore=kwargs.get("num_skel_nodes_ignore", 0),
        seg_ids_ignore=want["seg_ids_ignore"],
        distance_upper_bound_nm=kwargs.get("distance_upper_bound"),
    )
    documents = {d["id"]: (d.get("pre_skel_id"), d.get("post_skel_id")) for d in want["docs"]}
    found = {r["id"]: (r["skeleton_pre"], r["skeleton_post"]) for r in got.to_pylist()}
    spared = SPARED if case == "ignore3nodes" else {}
    segments = {r["id"]: (r["segment_pre"], r["segment_post"]) for r in got.to_pylist()}
    for row, ours in found.items():
        original = documents.get(row, (None, None))
        without_bug = tuple(None if s in spared and o == spared[s] else o for s, o in zip(segments[row], original, strict=True))
        assert ours == without_bug, row
    assert sum(o != documents.get(i, (None, None)) for i, o in found.items()) == (22 if spared else 0)


MENDED = {"thr130": {11: 3, 15: 1}, "thr200": {11: 2}, "thr130_split400": {11: 3, 15: 1}}
"""Partner: cleft, where the original errs. It takes the highest label that line 15 meets instead of the most frequent, and never leaves the
first voxel of line 11, whose longest axis is z."""

CLEFT_KEYS = ("cleft_id", "cleft_score_cor", "area")
MOVED = {"thr130_split400": [14]}
"""Partners whose half of the cleft has another mean than the original's, because partner 15 now belongs to it."""


def cleft_rows(name):
    lines = shared(f"golden/synful/cleft/{name}").read_text().splitlines()
    return {int(r["synful_id"]): r for r in ({k: float(v) for k, v in row.items()} for row in csv.DictReader(lines))}


def assigned(**options):
    clefts = np.load(shared("golden/synful/cleft/clefts.npz"))
    rows = partners_of(read("cleft/input_synapses.json"))
    return assign_clefts(rows, clefts[clefts.files[0]], (40, 4, 4), **options)


@pytest.mark.parametrize(("name", "options"), [("thr130", {}), ("thr200", {"threshold": 200}), ("thr130_split400", {"split_above": 400})])
def test_clefts(name, options):
    want = cleft_rows(f"expected_{name}.csv")
    rows = {r["id"]: r for r in assigned(**options).partners.to_pylist()}
    assert {i: rows[i]["cleft_id"] for i in MENDED[name]} == MENDED[name]
    for i in want.keys() - MENDED[name].keys():
        assert (rows[i]["cleft_id"], rows[i]["cleft_score"], rows[i]["cleft_area"]) == tuple(want[i][k] for k in CLEFT_KEYS), i
        if i not in MOVED.get(name, ()):
            assert [rows[i][f"connector_{a}"] for a in "zyx"] == [want[i][f"con_{a}"] for a in "zyx"], i


def test_cleft_labels():
    clefts, labels = (np.load(shared(f"golden/synful/cleft/{n}.npz")) for n in ("clefts", "cc_130"))
    assert np.array_equal(label_clefts(clefts[clefts.files[0]], 130), labels[labels.files[0]])


def test_cleft_lines():
    lines = read("cleft/dda_lines.json")
    for row in read("cleft/input_synapses.json"):
        pre, post = (np.array(row[e], int) // (40, 4, 4) for e in ("pre", "post"))
        if str(row["id"]) in lines and row["id"] != 11:
            assert line_voxels(pre, post).tolist() == lines[str(row["id"])]
