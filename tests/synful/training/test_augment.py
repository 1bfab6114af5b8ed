import numpy as np
import pytest

from blockwise.geometry import Region
from tasks.synful.training.augment_elastic import draw_field, section_shifts
from tasks.synful.training.augment_intensity import vary_intensity
from tasks.synful.training.augment_simple import Orientation, draw_orientation
from tasks.synful.training.cubes import Volume
from tasks.synful.training.parameters import AugmentOptions, ElasticOptions, IntensityOptions

REGION = Region((3, 10, 12), (11, 70, 72))
SIZE = (40.0, 4.0, 4.0)
WORLD = (20, 100, 100)


def drawn(seed: int = 0, **options):
    return draw_field(REGION, SIZE, ElasticOptions(**options), np.random.default_rng(seed))


def test_without_options_a_region_comes_from_itself():
    field = draw_field(REGION, SIZE, None, np.random.default_rng(0))
    raw = np.random.default_rng(1).integers(0, 255, WORLD).astype(np.uint8)
    assert (field.linear(Volume.of(raw)) == raw[REGION.slices]).all()
    assert (field.nearest(Volume.of(raw), REGION) == raw[REGION.slices]).all()
    assert field.points(np.array([[5.0, 20, 30]])).tolist() == [[5, 20, 30]]


@pytest.mark.parametrize("seed", range(4))
def test_points_move_with_the_labels(seed):
    """Each point has a label of its own, 3 voxels wide: where the point went, its label is."""
    random = np.random.default_rng(seed)
    labels = np.zeros(WORLD, np.uint8)
    points = np.stack(np.meshgrid(np.arange(4, 20, 5), np.arange(5, 95, 15), np.arange(5, 95, 15), indexing="ij"), axis=-1).reshape(-1, 3)
    for n, (z, y, x) in enumerate(points, 1):
        labels[z, y - 1 : y + 2, x - 1 : x + 2] = n
    field = draw_field(REGION, SIZE, ElasticOptions(prob_slip=0.1, prob_shift=0.1), random)
    moved = field.points(points.astype(float))
    there = np.isfinite(moved).all(axis=1)
    warped = field.nearest(Volume.of(labels), REGION)
    found = warped[tuple((moved[there] - REGION.begin).astype(int).T)]
    assert there.sum() > 10
    assert (found == np.flatnonzero(there) + 1).all()
    whole = [n for n in range(1, len(points) + 1) if (warped == n).sum() >= 6]
    assert set(whole) <= set(np.flatnonzero(there) + 1), "no label is seen whole without its point"


def test_a_rotation_is_one():
    field = drawn(jitter_sigma=(0, 0, 0), prob_slip=0, prob_shift=0, rotation_interval=(np.pi / 2, np.pi / 2))
    raw = np.random.default_rng(1).integers(0, 255, WORLD).astype(np.uint8)
    assert (field.nearest(Volume.of(raw), REGION) == np.rot90(raw[REGION.slices], -1, (1, 2))).all()


def test_jitter_is_smooth_and_of_its_size():
    field = drawn(jitter_sigma=(0, 2, 2), rotation_interval=(0, 0), prob_slip=0, prob_shift=0, subsample=1)
    moves = field.sources - np.stack(np.meshgrid(*(np.arange(n) for n in REGION.shape), indexing="ij"))
    assert not moves[0].any()
    assert 0.5 < moves[1:].std() < 3
    assert np.abs(np.diff(moves[1:], axis=-1)).max() < 0.5


def test_a_coarser_field_is_close():
    options = {"control_point_spacing": (32, 40, 40), "prob_slip": 0, "prob_shift": 0}
    fine, coarse = drawn(subsample=1, **options), drawn(subsample=8, **options)
    assert 0 < np.abs(coarse.sources - fine.sources).max() < 0.5


def test_shifts_last_and_slips_do_not():
    options = {"max_misalign": 5.0}
    lasting = section_shifts(200, ElasticOptions(prob_slip=0, prob_shift=0.05, **options), np.random.default_rng(0))
    changes = np.any(np.diff(lasting, axis=0) != 0, axis=1)
    assert 2 <= changes.sum() <= 25
    slips = section_shifts(200, ElasticOptions(prob_slip=0.05, prob_shift=0, **options), np.random.default_rng(0))
    assert 2 <= np.any(slips != 0, axis=1).sum() <= 25
    assert np.abs(slips).max() <= 5
    assert not section_shifts(200, ElasticOptions(prob_slip=0, prob_shift=0), np.random.default_rng(0)).any()


def test_raw_data_is_continued_by_its_edge_and_labels_are_not():
    field = draw_field(Region((0, -5, -5), (2, 5, 5)), SIZE, None, np.random.default_rng(0))
    volume = Volume.of(np.full((2, 8, 8), 7, np.uint8))
    assert (field.linear(volume) == 7).all()
    assert field.nearest(volume, field.region).sum() == 7 * 2 * 25


@pytest.mark.parametrize("flips", [(False, True, False), (True, True, True), (False, False, False)])
@pytest.mark.parametrize("transposed", [False, True])
def test_points_turn_with_arrays(flips, transposed):
    values = np.arange(3 * 5 * 7).reshape(3, 5, 7)
    turn = Orientation(flips, transposed)
    point = np.array([[1.25, 3.5, 4.75]])
    turned = turn.points(point, values.shape)
    assert turn.array(values)[tuple(np.floor(turned[0]).astype(int))] == values[1, 3, 4]
    assert sorted(np.modf(turned[0])[0]) == [0.25, 0.5, 0.75]
    assert turn.array(values).shape == turn.shape(values.shape)


def test_orientations_are_those_allowed():
    options = AugmentOptions(mirror=("y",), transpose=False)
    drawn = {draw_orientation(options, np.random.default_rng(i)) for i in range(40)}
    assert drawn == {Orientation(), Orientation((False, True, False))}


def test_intensity_changes_sections_within_bounds():
    raw = np.random.default_rng(0).uniform(0.3, 0.6, (50, 8, 8)).astype(np.float32)
    varied = vary_intensity(raw, IntensityOptions(), np.random.default_rng(1))
    contrast = varied.std(axis=(1, 2)) / raw.std(axis=(1, 2))
    shift = varied.mean(axis=(1, 2)) - raw.mean(axis=(1, 2))
    assert 0.89 < contrast.min() < 0.95 < 1.05 < contrast.max() < 1.11
    assert -0.101 < shift.min() < -0.05 < 0.05 < shift.max() < 0.101
    dark = vary_intensity(np.zeros((4, 2, 2), np.float32), IntensityOptions(shift=(-0.5, -0.2)), np.random.default_rng(1))
    assert (dark == 0).all()
