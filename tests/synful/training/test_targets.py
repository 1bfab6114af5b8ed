import numpy as np
import pytest

from blockwise.errors import InputError
from blockwise.geometry import Region
from tasks.synful.training.targets import Labels, partner_vectors, rasterize_peaks, rasterize_points

SIZE = (40.0, 4.0, 4.0)
REGION = Region((0, 0, 0), (5, 40, 40))


def distances(point: tuple[float, ...], region: Region = REGION) -> np.ndarray:
    """nm from the voxel of a point to every voxel."""
    voxel = np.trunc(np.array(point) / SIZE)
    grid = np.stack(np.meshgrid(*map(np.arange, region.begin, region.end), indexing="ij"), axis=-1)
    return np.sqrt((((grid - voxel) * SIZE) ** 2).sum(axis=-1))


@pytest.mark.parametrize("radius", [1.0, 10.0, 45.0])
def test_an_indicator_is_a_ball(radius):
    point = (85.0, 81.0, 78.0)
    assert (rasterize_points([point], REGION, SIZE, radius=radius) == (distances(point) <= radius)).all()


def test_a_ball_reaches_in_from_outside():
    region = Region((0, 10, 0), (5, 40, 40))
    found = rasterize_points([(80, 30, 80)], region, SIZE, radius=30)
    assert (found == (distances((80, 30, 80), region) <= 30)).all()
    assert found.any()


def test_a_ball_ends_with_its_segment():
    values = np.ones((5, 40, 40), np.uint8)
    values[:, :, 20:] = 2
    values[:, :5] = 0
    found = rasterize_points([(80, 80, 76), (80, 8, 80)], REGION, SIZE, radius=20, labels=Labels(values))
    assert found[:, :, :20].any()
    assert not found[:, :, 20:].any(), "another segment, and a point on no segment"


def test_labels_may_begin_elsewhere():
    values = np.arange(5 * 30 * 30, dtype=np.uint64).reshape(5, 30, 30)
    labels = Labels(values, (1, 5, 5))
    found = labels.within(REGION)
    assert (found[1:5, 5:35, 5:35] == values[:4]).all()
    assert not found[0].any()
    assert not found[:, :, 35:].any()


def test_vectors_lead_from_each_voxel_to_the_partner():
    vectors, mask = partner_vectors([(80, 80, 80)], [(120.0, 43.0, 99.0)], REGION, SIZE, radius=30, target_context=100)
    assert (mask == (distances((80, 80, 80)) <= 30)).all()
    at = np.argwhere(mask)
    assert (at * SIZE + vectors[:, mask != 0].T == (120.0, 43.0, 99.0)).all()
    assert not vectors[:, mask == 0].any()


def test_shared_voxels_go_to_the_nearest_site():
    post, pre = [(80, 80, 80), (80, 80, 100)], [(80.0, 0.0, 0.0), (80.0, 150.0, 150.0)]
    vectors, mask = partner_vectors(post, pre, REGION, SIZE, radius=30, target_context=200)
    nearer = distances(post[0]) < distances(post[1])
    for k, own in enumerate((nearer, ~nearer)):
        at = np.argwhere((mask != 0) & own)
        assert len(at)
        assert (at * SIZE + vectors[:, (mask != 0) & own].T == pre[k]).all()


@pytest.mark.parametrize("pre", [(np.nan, np.nan, np.nan), (80.0, 80.0, 500.0)])
def test_a_site_without_a_partner_nearby_is_left_out(pre):
    vectors, mask = partner_vectors([(80, 80, 80)], [pre], REGION, SIZE, radius=30, target_context=140)
    assert not mask.any()
    assert not vectors.any()


def test_nothing_is_drawn_of_no_points():
    empty = np.zeros((0, 3))
    assert not rasterize_points(empty, REGION, SIZE, radius=10).any()
    assert not rasterize_peaks(empty, REGION, SIZE, radius=10).any()
    assert not partner_vectors(empty, empty, REGION, SIZE, radius=10)[1].any()


def test_pairs_must_be_pairs():
    with pytest.raises(InputError, match="2 post sites and 1 pre sites"):
        partner_vectors(np.zeros((2, 3)), np.zeros((1, 3)), REGION, SIZE, radius=10)
