"""What evaluation costs: the FAFB benchmark of the protocerebral bridge, 17,633 predictions against 14,779 synapses of 27 neurons.

$BLOCKWISE_SHARED, or the folder `shared` beside the repository, holds the tables; without them random ones of the same size are made.
"""

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.synful.evaluation import evaluate
from tasks.synful.partners import AXES

PREDICTED, TRUE, NEURONS = 17_633, 14_779, 27
THRESHOLDS = (0, 10, 60, 200)


def figures() -> dict[str, object]:
    """fafb_s_per_threshold: CPU-seconds of one evaluation, the mean over the thresholds of the best of three passes; loading excluded."""
    folder = Path(os.environ.get("BLOCKWISE_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "golden/synful/eval"
    predicted, truth, skeletons = stored(folder) if folder.is_dir() else generated()
    cost = min(sum(cpu_s(predicted, truth, skeletons, t) for t in THRESHOLDS) for _ in range(3)) / len(THRESHOLDS)
    return {"fafb_s_per_threshold": cost, "fafb_rows": predicted.num_rows, "fafb_data": "real" if folder.is_dir() else "random"}


def cpu_s(predicted: pa.Table, truth: pa.Table, skeletons: list[int], threshold: float) -> float:
    """CPU-seconds of one threshold, as published: 700 nm on the pre site, duplicates within 250 nm merged, autapses dropped."""
    options: dict[str, Any] = {"match_on": "pre", "match_distance_nm": 700, "merge_within_nm": 250, "drop_same_id": True}
    began = time.process_time()
    evaluate(predicted, truth, by="skeleton", ids=skeletons, min_score=threshold, **options)
    return time.process_time() - began


def stored(folder: Path) -> tuple[pa.Table, pa.Table, list[int]]:
    """Tables of the real predictions and synapses, and the neurons."""
    names = ("fafb_pb_pred.json.gz", "fafb_pb_gt.json.gz")
    predicted, truth = (_table(json.loads(gzip.decompress((folder / n).read_bytes()))) for n in names)
    return predicted, truth, [int(s) for s in (folder / "fafb_pb_skelids.txt").read_text().split()]


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    columns: dict[str, Any] = {"id": pa.array([r["id"] for r in rows]), "score": pa.array([r.get("score") for r in rows], pa.float64())}
    for end in ("pre", "post"):
        columns |= {f"{end}_{a}": pa.array([r[f"location_{end}"][i] for r in rows]) for i, a in enumerate(AXES)}
        columns[f"skeleton_{end}"] = pa.array([r[f"id_skel_{end}"] for r in rows], pa.int64())
        columns[f"segment_{end}"] = pa.array([r.get(f"id_segm_{end}") for r in rows], pa.int64())
    return pa.table(columns)


def generated(seed: int = 0) -> tuple[pa.Table, pa.Table, list[int]]:
    """Random tables of this size: neurons crowd in a neuropil, half of the predictions lie near a synapse of the same two neurons."""
    random = np.random.default_rng(seed)
    pairs, sites = random.integers(0, 3 * NEURONS, (TRUE, 2)), random.integers(0, 20_000, (TRUE, 3))
    at = random.integers(0, TRUE, PREDICTED)
    found, moved = pairs[at], sites[at] + random.normal(0, 150, (PREDICTED, 3)).astype(np.int64)
    found[::2, 1] = random.integers(0, 3 * NEURONS, len(found[::2]))
    return _random(random, found, moved), _random(random, pairs, sites), list(range(NEURONS))


def _random(random: np.random.Generator, pairs: npt.NDArray[np.int64], post: npt.NDArray[np.int64]) -> pa.Table:
    sites = {"pre": post + random.integers(-100, 100, post.shape), "post": post}
    columns = {f"{end}_{a}": values[:, i] for end, values in sites.items() for i, a in enumerate(AXES)}
    ids = {f"skeleton_{end}": pairs[:, i] for i, end in enumerate(sites)}
    return pa.table({"id": np.arange(len(post)), "score": random.gamma(1, 100, len(post)), **columns, **ids})
