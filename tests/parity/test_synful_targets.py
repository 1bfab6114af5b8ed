"""Targets against what gunpowder's RasterizePoints and AddPartnerVectorMap drew (golden/synful/train/targets.npz)."""

import re

import numpy as np
import pytest

from blockwise.geometry import Region
from tasks.synful.training.targets import Labels, partner_vectors, rasterize_peaks, rasterize_points
from tests.shared import shared


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(shared("golden/synful/train/targets.npz")))


def region_of(golden) -> Region:
    begin = golden["roi_offset_nm"] // golden["voxel_size"]
    return Region(tuple(begin.tolist()), tuple((begin + golden["roi_shape_nm"] // golden["voxel_size"]).tolist()))


def labels_of(golden, case: str) -> Labels | None:
    return Labels(golden["segmentation"]) if "_mask_" in f"_{case}_" else None


def cases(golden, kind: str) -> list[str]:
    return [k.removeprefix(kind) for k in golden if k.startswith(kind)]


def at_the_radius(golden, region: Region, radius: float) -> np.ndarray:
    """Voxels at exactly the radius of a site: the original's distance transform rounds there."""
    size = golden["voxel_size"]
    grid = np.stack(np.meshgrid(*map(np.arange, region.begin, region.end), indexing="ij"), axis=-1)
    sites = np.trunc(golden["synapse_post_nm"] / size)
    return np.any([(((grid - s) * size) ** 2).sum(axis=-1) == radius**2 for s in sites], axis=0)


def test_indicators_are_equal(golden):
    region, size = region_of(golden), golden["voxel_size"]
    compared = 0
    for case in cases(golden, "indicator_"):
        kind, radius = re.fullmatch(r"(?:no)?mask_(r|peak)(\d+)", case).groups()
        if kind == "r":
            got = rasterize_points(golden["synapse_post_nm"], region, size, radius=float(radius), labels=labels_of(golden, case))
            np.testing.assert_array_equal(got, golden[f"indicator_{case}"], err_msg=case)
        else:
            got = rasterize_peaks(golden["synapse_post_nm"], region, size, radius=float(radius))
            np.testing.assert_allclose(got, golden[f"indicator_{case}"], atol=1e-6, err_msg=case)
        compared += 1
    assert compared > 0


def test_vector_maps_are_equal(golden):
    region, compared = region_of(golden), 0
    for case in cases(golden, "vec_"):
        radius = float(re.search(r"_r(\d+)", case)[1])
        vectors, mask = partner_vectors(
            golden["synapse_post_nm"],
            golden["synapse_pre_nm"],
            region,
            golden["voxel_size"],
            radius=radius,
            target_context=0 if case.endswith("ctx0") else 140,
            labels=labels_of(golden, case),
        )
        free = at_the_radius(golden, region, radius)
        assert free.mean() < 3e-3
        np.testing.assert_array_equal(mask[~free], golden[f"pointmask_{case}"][~free], err_msg=case)
        np.testing.assert_array_equal(vectors[:, ~free], golden[f"vec_{case}"][:, ~free], err_msg=case)
        compared += 1
    assert compared > 0
