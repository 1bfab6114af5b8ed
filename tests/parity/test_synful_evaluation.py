"""Evaluation as the original counts it (issue 4, point 6: the FAFB benchmark, synthetic cases, the CREMI metric)."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest

from tasks.synful.challenge import cremi_metric
from tasks.synful.evaluation import evaluate
from tests.shared import shared


def partners(rows, names) -> pa.Table:
    """A table of the golden records: `names` are theirs of pre, post, score and, per column, of the ids."""
    columns = {"id": [r["id"] for r in rows], "score": pa.array([r.get("score") for r in rows], pa.float64())}
    for end in ("pre", "post"):
        for i, axis in enumerate("zyx"):
            columns[f"{end}_{axis}"] = pa.array([r[names[end]][i] for r in rows], pa.float64())
    for column, name in names.items():
        if column not in ("pre", "post"):
            columns[column] = pa.array([r.get(name) for r in rows], pa.int64())
    return pa.table(columns)


FAFB = {
    "pre": "location_pre",
    "post": "location_post",
    **{f"skeleton_{e}": f"id_skel_{e}" for e in ("pre", "post")},
    **{f"segment_{e}": f"id_segm_{e}" for e in ("pre", "post")},
}
SYNTHETIC = {
    "pre": "pre",
    "post": "post",
    **{f"skeleton_{e}": f"skel_{e}" for e in ("pre", "post")},
    **{f"segment_{e}": f"seg_{e}" for e in ("pre", "post")},
}


@pytest.fixture(scope="module")
def fafb():
    folder = shared("golden/synful/eval")
    tables = [partners(json.loads(gzip.decompress((folder / f"fafb_pb_{n}.json.gz").read_bytes())), FAFB) for n in ("pred", "gt")]
    return *tables, [int(s) for s in (folder / "fafb_pb_skelids.txt").read_text().split()]


def expected(name):
    return json.loads(shared(f"golden/synful/eval/{name}.json").read_text())


@pytest.mark.parametrize("threshold", [0, 10, 60, 200])
def test_protocerebral_bridge(fafb, threshold):
    predicted, truth, skeletons = fafb
    found = evaluate(
        predicted,
        truth,
        by="skeleton",
        ids=skeletons,
        min_score=threshold,
        match_on="pre",
        match_distance_nm=700,
        merge_within_nm=250,
        drop_same_id=True,
    )
    want = expected("fafb_pb_expected")[f"thr{threshold}"]
    assert (found.true_positives, found.false_positives, found.false_negatives) == (want["tpcount"], want["fpcount"], want["fncount"])
    assert found.merged == want["num_clustered_synapses"]
    for name in ("f_score", "precision", "recall"):
        assert getattr(found, name) == pytest.approx(want[name.replace("_", "")], abs=1e-9)
    assert np.sum([found.per_id[n].to_numpy() for n in ("true_positives", "false_negatives")]) == want["gtcount"]


def record(id, pre, post, segments=(1, 2)):
    return {"id": id, "pre": pre, "post": post, "seg_pre": segments[0], "seg_post": segments[1]}


HAND_MADE = {
    "none_ids_never_match": ([record(2, (0, 0, 0), (0, 0, 50), (None, 2))], [record(1, (0, 0, 0), (0, 0, 50), (None, 2))]),
    "exact_threshold_matches": ([record(2, (0, 0, 400), (400, 0, 0))], [record(1, (0, 0, 0), (0, 0, 0))]),
    "one_side_over_threshold": ([record(2, (0, 0, 0), (0, 0, 400.5))], [record(1, (0, 0, 0), (0, 0, 0))]),
    "hungarian_vs_greedy": (
        [record(11, (0, 0, 50), (0, 0, 50)), record(12, (0, 0, -100), (0, 0, -100))],
        [record(1, (0, 0, 0), (0, 0, 0)), record(2, (0, 0, 200), (0, 0, 200))],
    ),
}
"""Inputs that are not in the golden files, made after the names and ids of the cases."""


def synthetic(case):
    if case in HAND_MADE:
        return HAND_MADE[case]
    rows = json.loads(shared("golden/synful/eval/synthetic_input.json").read_text())
    return [
        [] if empty else rows[name]
        for name, empty in (("pred", case in ("empty_pred", "both_empty")), ("gt", case in ("empty_gt", "both_empty")))
    ]


@pytest.mark.parametrize(
    "case",
    [
        *(f"seg_thr{t}" for t in (50, 100, 200, 400, 700)),
        *("skel_thr400", "seg_thr100_pre", "seg_thr100_post", "empty_pred", "empty_gt", "both_empty"),
        *HAND_MADE,
    ],
)
def test_synthetic_partners(case):
    want = expected("synthetic_expected")[case]
    options = want["kwargs"]
    predicted, truth = (partners(rows, SYNTHETIC) for rows in synthetic(case))
    found = evaluate(
        predicted,
        truth,
        by={"seg": "segment", "skel": "skeleton"}[options["id_type"]],
        match_on="pre" if options.get("use_only_pre") else "post" if options.get("use_only_post") else "both",
        match_distance_nm=options.get("matching_threshold", 400),
    )
    assert (found.true_positives, found.false_positives, found.false_negatives) == (want["tp"], want["fp"], want["fn"])
    assert (found.f_score, found.precision, found.recall) == pytest.approx((want["fscore"], want["precision"], want["recall"]), abs=1e-12)
    ids = [t["id"].to_numpy() for t in (predicted, truth)]
    assert sorted(map(list, zip(*(i[r].tolist() for i, r in zip(ids, found.matches.T, strict=True)), strict=True))) == sorted(
        want["matches"]
    )
    assert sorted(ids[0][found.false_positive_rows].tolist()) == want["fp_ids"]
    assert sorted(ids[1][found.false_negative_rows].tolist()) == want["fn_ids"]


def test_every_synthetic_case_is_tested():
    assert len(expected("synthetic_expected")) == 15


@pytest.mark.parametrize("distance", ["30", "60", "120", "400"])
def test_cremi_metric(distance):
    golden = expected("cremi_metric")
    want = golden["expected"][distance]
    with np.load(shared("golden/synful/map/segmentation.npz")) as file:
        segmentation = file["seg"]
    predicted, truth = (
        partners([{"id": i, "pre": pre, "post": post} for i, (pre, post) in enumerate(golden[name])], {"pre": "pre", "post": "post"})
        for name in ("pred", "gt")
    )
    found = cremi_metric(predicted, truth, segmentation, voxel_size=golden["resolution"], match_distance_nm=float(distance))
    assert (found.true_positives, found.false_positives, found.false_negatives) == (want["tp"], want["fp"], want["fn"])
    assert (found.f_score, found.precision, found.recall) == pytest.approx((want["fscore"], want["precision"], want["recall"]), abs=1e-12)
    assert found.matches.tolist() == [list(m[:2]) for m in want["matches"]]
