"""How good a network is while it trains: predictions of held-out regions, scored as the finished network's would be."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region
from tasks.synful.parameters import HEADS
from tasks.synful.training.cubes import Cube, Volume
from tasks.synful.training.parameters import ValidationOptions
from tasks.synful.training.points import Pairs
from tasks.synful.training.samples import scaled

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.synful.network import UNet

Array = npt.NDArray[Any]
TILE = (32, 400, 400)
HEAD_OF = {"probability": "mask", "vectors": "vectors"}
"""Of the arrays that `predict` gives."""


def judged_region(cube: Cube) -> Region:
    """The box to predict: that of the mask to judge in where the cube has one, else all whose targets are known."""
    mask = _judging(cube)
    if mask is None:
        return cube.known
    inside = mask.read(cube.known) != 0
    spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not spans[0].size:
        return Region(cube.known.begin, cube.known.begin)
    first, last = ([int(span[end]) + b for span, b in zip(spans, cube.known.begin, strict=True)] for end in (0, -1))
    return Region(tuple(first), tuple(n + 1 for n in last))


def _judging(cube: Cube) -> Volume | None:
    """The mask within which a cube is judged: what it holds out, or, where it holds nothing out, what is annotated."""
    return cube.mask if cube.validation_mask is None else cube.validation_mask


def predict(network: "UNet", cube: Cube, region: Region) -> dict[str, Array]:
    """Predict a region of a cube, in tiles on one pooling phase.

    Returns
    -------
    "probability" (z, y, x) and "vectors" (3, z, y, x) nm, float32, each where the network has it. Beyond its edges raw data is
    continued by them.
    """
    import torch

    device, made = next(network.parameters()).device, {}
    training = network.training
    network.eval()
    with torch.inference_mode():
        for core in _cores(network, region):
            raw = _padded(cube, core.grow(*zip(*network.shape.aligned_context, strict=True)))
            outputs = network(torch.from_numpy(raw)[None, None].to(device))
            found = {"vectors": outputs["vectors"][0]} if "vectors" in outputs else {}
            if "mask_logits" in outputs:
                found["probability"] = network.probabilities(outputs["mask_logits"])[0]
            common = core.intersect(region)
            for name, values in found.items():
                whole = made.setdefault(name, np.zeros((values.shape[0], *region.shape), np.float32))
                part = values[(slice(None), *common.shift([-b for b in core.begin]).slices)]
                whole[(slice(None), *common.shift([-b for b in region.begin]).slices)] = part.float().cpu().numpy()
    network.train(training)
    return {name: values[0] if name == "probability" else values for name, values in made.items()}


def _cores(network: "UNet", region: Region) -> Iterator[Region]:
    """Boxes of whole pooling products that cover a region, begun at its begin."""
    step = [min(-(-n // p), max(1, most // p)) * p for n, most, p in zip(region.shape, TILE, network.shape.product, strict=True)]
    if region.size:
        for corner in product(*(range(b, e, s) for b, e, s in zip(region.begin, region.end, step, strict=True))):
            yield Region(corner, tuple(c + s for c, s in zip(corner, step, strict=True)))


def _padded(cube: Cube, region: Region) -> Array:
    """Raw data in [-1, 1], continued by its edge."""
    common = region.intersect(cube.raw.region)
    margins = [(cb - b, e - ce) for b, e, cb, ce in zip(*region, *common, strict=True)]
    values = scaled(cube.raw.read(common), cube.name, cube.raw.dtype) * 2 - 1
    return np.pad(values, margins, mode="edge")


def validate(network: "UNet", cubes: Sequence[Cube], options: ValidationOptions, *, learned: Sequence[str] = HEADS) -> dict[str, float]:
    """Scores over all cubes.

    Parameters
    ----------
    learned : the heads that are trained: a network may have one that is not, whose answer means nothing.

    Returns
    -------
    precision, recall, f_score, true_positives, false_positives and false_negatives of partners, where the cubes have points; of their
    post sites alone where vectors are not learned.  vector_error_nm : the median over annotated pairs of how far the vector at the post
    site misses the pre site.  average_precision and prevalence of voxels, where the mask to learn is a volume.
    """
    counts = np.zeros(3, np.int64)
    labels, probabilities, errors, partners = [], [], [np.empty(0)], False
    for cube in cubes:
        region = judged_region(cube)
        found = {name: values for name, values in predict(network, cube, region).items() if HEAD_OF[name] in learned}
        mask = _judging(cube)
        inside = mask.read(region) != 0 if mask is not None else np.ones(region.shape, bool)
        if cube.indicator is not None:
            labels.append((cube.indicator.read(region) > 0)[inside])
            probabilities.append(found["probability"][inside])
            continue
        if "vectors" in found:
            errors.append(_vector_errors(found["vectors"], cube, region, inside))
        if "probability" in found:
            counts += _counts(found, cube, region, inside, options)
            partners = True
    scores = _partner_scores(*counts.tolist()) if partners else {}
    if (missed := np.concatenate(errors)).size:
        scores["vector_error_nm"] = float(np.median(missed))
    if labels:
        truth = np.concatenate(labels)
        scores |= {"average_precision": average_precision(np.concatenate(probabilities), truth), "prevalence": float(truth.mean())}
    return scores


def _counts(found: dict[str, Array], cube: Cube, region: Region, inside: Array, options: ValidationOptions) -> npt.NDArray[np.int64]:
    """True positives, false positives and false negatives of partners in a region; of post sites where there are no vectors."""
    from tasks.synful import detect, evaluate

    size = np.asarray(cube.voxel_size)
    offset = np.multiply(region.begin, size)
    predicted = detect(
        found["probability"] * inside,
        found["vectors"] if "vectors" in found else np.broadcast_to(np.float32(0), (3, *region.shape)),
        cube.voxel_size,
        method=options.method,
        threshold=options.threshold,
        score=options.score,
        min_score=options.min_score,
        nms_radius=options.nms_radius,
        offset=tuple(offset.tolist()),
    )
    truth = true_partners(cube, region, inside)
    by, drop, match_on = "none", False, options.match_on if "vectors" in found else "post"
    if cube.labels is not None and "vectors" in found:
        predicted, truth = (_with_segments(t, cube) for t in (predicted, truth))
        by, drop = "segment", True
    result = evaluate(predicted, truth, by=by, match_on=match_on, match_distance_nm=options.match_distance_nm, drop_same_id=drop)
    return np.array([result.true_positives, result.false_positives, result.false_negatives])


def _vector_errors(vectors: Array, cube: Cube, region: Region, inside: Array) -> npt.NDArray[np.float64]:
    """How far the vectors at annotated post sites miss their pre sites, nm, (n,)."""
    from tasks.synful.partners import points

    truth, size = true_partners(cube, region, inside), np.asarray(cube.voxel_size)
    voxels = np.floor_divide(points(truth, "post"), size).astype(np.int64)
    told = vectors[(slice(None), *(voxels - region.begin).T)].T
    return np.asarray(np.linalg.norm(voxels * size + told - points(truth, "pre"), axis=1))


def true_partners(cube: Cube, region: Region, inside: Array | None = None) -> "pa.Table":
    """Annotated pairs whose post site lies in a region (and its mask), as a table of partners; unknown partners are left out."""
    from tasks.synful.partners import cantor_ids, table

    size = np.asarray(cube.voxel_size)
    known = np.isfinite(cube.pairs.pre).all(axis=1)
    pairs = Pairs(cube.pairs.pre[known], cube.pairs.post[known])
    voxels = np.trunc(pairs.post / size).astype(np.int64)
    kept = ((voxels >= region.begin) & (voxels < region.end)).all(axis=1)
    if inside is not None:
        kept[kept] = inside[tuple((voxels[kept] - region.begin).T)]
    return table(pairs.pre[kept], pairs.post[kept], np.ones(kept.sum()), cantor_ids(voxels[kept]))


def _with_segments(partners: "pa.Table", cube: Cube) -> "pa.Table":
    """The labels at both ends; null outside the cube's labels."""
    import pyarrow as pa

    from tasks.synful.partners import points

    assert cube.labels is not None
    for end in ("pre", "post"):
        voxels = np.floor_divide(points(partners, end), np.asarray(cube.voxel_size)).astype(np.int64)
        region = cube.labels.region
        there = ((voxels >= region.begin) & (voxels < region.end)).all(axis=1)
        ids = np.zeros(len(voxels), np.uint64)
        if there.any():
            low, high = voxels[there].min(axis=0), voxels[there].max(axis=0) + 1
            ids[there] = cube.labels.read(Region(tuple(low.tolist()), tuple(high.tolist())))[tuple((voxels[there] - low).T)]
        partners = partners.append_column(f"segment_{end}", pa.array(ids, mask=~there))
    return partners


def _partner_scores(hits: int, extra: int, missed: int) -> dict[str, float]:
    precision = hits / (hits + extra) if hits + extra else 1.0
    recall = hits / (hits + missed) if hits + missed else 1.0
    f_score = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    counts = {"true_positives": hits, "false_positives": extra, "false_negatives": missed}
    return {"f_score": f_score, "precision": precision, "recall": recall, **counts}


def average_precision(probabilities: Array, truth: Array) -> float:
    """Area under the curve of precision against recall, as the mean precision over the true voxels; equal scores count as one step."""
    order = np.argsort(-probabilities, kind="stable")
    hits = np.cumsum(truth[order])
    ends = np.flatnonzero(np.diff(probabilities[order], append=-np.inf))
    if not hits.size or hits[-1] == 0:
        return float("nan")
    steps = np.diff(hits[ends], prepend=0)
    return float((steps * hits[ends] / (ends + 1)).sum() / hits[-1])
