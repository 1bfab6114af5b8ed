from dataclasses import replace

import numpy as np
import pytest

from blockwise.errors import InputError
from blockwise.geometry import Region
from tasks.synful.training.cubes import Cube, Volume
from tasks.synful.training.loop import geometry_of
from tasks.synful.training.points import Pairs
from tasks.synful.training.samples import Sampler, scaled
from tests.synful.training.data import SIZE, simulated, tiny


@pytest.fixture(scope="module")
def cube():
    return simulated()


def sampler(cube: Cube, **changes) -> Sampler:
    parameters = tiny(**{"trg_context": 300, **changes})
    return Sampler([cube], parameters, geometry_of(parameters))


def beacons() -> Cube:
    """Pre sites are bright in the raw data, post sites have labels of their own."""
    random = np.random.default_rng(0)
    raw, labels = np.zeros((20, 120, 120), np.uint8), np.ones((20, 120, 120), np.uint64)
    grid = np.stack(np.meshgrid([4, 9, 14], np.arange(10, 115, 26), np.arange(10, 115, 26), indexing="ij"), axis=-1).reshape(-1, 3)
    pre = grid + random.integers((0, 4, 4), (1, 7, 7), (len(grid), 3))
    for n, (post, bright) in enumerate(zip(grid, pre, strict=True), 2):
        labels[post[0], post[1] - 2 : post[1] + 3, post[2] - 2 : post[2] + 3] = n
        raw[bright[0], bright[1] - 1 : bright[1] + 2, bright[2] - 1 : bright[2] + 2] = 255
    return Cube("beacons", SIZE, Volume.of(raw), labels=Volume.of(labels), pairs=Pairs(pre * SIZE, grid * SIZE))


AUGMENTED = {"elastic": {"jitter_sigma": (0, 1, 1), "prob_slip": 0, "prob_shift": 0}, "mirror": ["z", "y", "x"], "intensity": None}
PLAIN = {"elastic": None, "mirror": [], "transpose": False, "intensity": None}


@pytest.mark.parametrize("augment", [PLAIN, AUGMENTED], ids=["plain", "augmented"])
def test_vectors_lead_to_the_partner_after_augmentation(augment):
    made = sampler(beacons(), augment=augment, reject_probability=1.0)
    hits = []
    for iteration in range(12):
        sample = made.sample(iteration)
        voxels = np.argwhere(sample.vectors_mask)
        context = [(i - o) // 2 for i, o in zip(sample.raw.shape, sample.labels.shape, strict=True)]
        ends = (voxels + sample.vectors[:, sample.vectors_mask != 0].T / SIZE + context).round().astype(int)
        inside = ((ends >= 0) & (ends < sample.raw.shape)).all(axis=1)
        hits.extend(sample.raw[tuple(ends[inside].T)] > -0.5)
        assert (sample.labels[sample.vectors_mask != 0] > 1).all(), "balls end with their segment"
    assert len(hits) > 200
    assert np.mean(hits) > 0.99


def test_a_sample_depends_on_seed_iteration_and_number_only(cube):
    first, again = sampler(cube).sample(7, 1), sampler(cube).sample(7, 1)
    assert all((a == again.arrays()[name]).all() for name, a in first.arrays().items())
    others = [sampler(cube).sample(8, 1), sampler(cube).sample(7, 0), sampler(cube, seed=1).sample(7, 1)]
    assert all((first.raw != other.raw).any() for other in others)


def test_what_a_sample_holds(cube):
    sample = sampler(cube).sample(0)
    assert sample.raw.shape == (6, 52, 52)
    assert -1 <= sample.raw.min() < sample.raw.max() <= 1
    shape = sample.indicator.shape
    assert sample.vectors.shape == (3, *shape)
    assert {str(a.dtype) for n, a in sample.arrays().items() if n != "labels"} == {"float32"}
    assert sample.indicator.sum() > 0
    assert len(np.unique(sample.indicator_weight[sample.indicator_weight > 0])) == 2
    assert set(np.unique(sample.indicator)) <= {0, 1}


def test_masks_switch_losses_off(cube):
    mask = np.zeros(cube.raw.region.shape, np.uint8)
    mask[:, :, : mask.shape[2] // 2] = 1
    for masked in (replace(cube, mask=Volume.of(mask)), replace(cube, validation_mask=Volume.of(1 - mask))):
        weights = [s.indicator_weight for s in map(sampler(masked, augment=PLAIN).sample, range(6))]
        assert all((w > 0).any() for w in weights)
        assert any((w == 0).any() for w in weights)


@pytest.mark.parametrize(("angle", "unknown"), [(0, False), (np.pi / 4, True)])
def test_what_turns_in_from_where_nothing_is_annotated_is_not_learned(cube, angle, unknown):
    still = {"jitter_sigma": (0, 0, 0), "prob_slip": 0, "prob_shift": 0, "rotation_interval": (angle, angle)}
    width = sampler(cube).geometry.output[1]
    known = replace(cube, complete=Region((2, 40, 40), (10, 41 + width, 41 + width)))
    sample = sampler(known, augment={**PLAIN, "elastic": still}, reject_probability=0).sample(0)
    assert (sample.indicator_weight == 0).any() == unknown
    assert not sample.vectors_mask[sample.indicator_weight == 0].any()
    assert (sample.indicator_weight > 0).mean() > 0.7


def test_a_mask_volume_is_learned_as_it_is():
    random = np.random.default_rng(0)
    indicator = np.zeros((12, 80, 80), np.uint8)
    indicator[4:7, 30:40, 30:50] = 255
    cube = Cube("c", SIZE, Volume.of(random.integers(0, 255, indicator.shape).astype(np.uint8)), indicator=Volume.of(indicator))
    sample = sampler(cube, augment=PLAIN, d_loss_scale=0, reject_probability=1.0).sample(3)
    assert sample.indicator.sum() > 0
    assert not sample.vectors_mask.any()


def test_peaks_are_between_0_and_1(cube):
    sample = sampler(cube, blob_mode="peak", m_loss_type="mean_squared_error").sample(0)
    assert sample.indicator.max() == 1
    assert len(np.unique(sample.indicator)) > 10


def test_cubes_are_drawn_by_weight(cube):
    dark = replace(cube, raw=Volume.of(np.zeros(cube.raw.region.shape, np.uint8)), weight=3.0)
    parameters = tiny(augment=PLAIN)
    made = Sampler([cube, dark], parameters, geometry_of(parameters))
    share = np.mean([made.sample(i).raw.max() == -1 for i in range(60)])
    assert 0.55 < share < 0.95


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (np.zeros((2, 2, 2), np.int32), "type int32; uint8, uint16"),
        (np.full((2, 2, 2), 7.0, np.float32), "raw floats from 7 to 7"),
    ],
)
def test_raw_data_of_another_scale_is_refused(raw, words):
    with pytest.raises(InputError, match=words):
        scaled(raw, "c")


def test_raw_integers_are_scaled_by_their_type():
    assert scaled(np.array([255], np.uint8), "c") == 1
    assert scaled(np.array([65535], np.uint16), "c") == pytest.approx(1)
    assert scaled(np.array([0.25]), "c") == 0.25
