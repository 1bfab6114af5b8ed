"""Mapping, duplicates and clefts against the original's own output."""

import json

import numpy as np
import pyarrow as pa
import pytest

from tasks.synful.duplicates import cluster_duplicates, duplicate_mask
from tasks.synful.partners import table
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
    return table(*([r[k] for r in rows] for k in ("pre", "post", "score", "id")), more=identities)


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
