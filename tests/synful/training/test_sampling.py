from dataclasses import replace

import numpy as np
import pytest

from blockwise.errors import InputError
from blockwise.geometry import Region
from tasks.synful.training.cubes import Cube, Volume
from tasks.synful.training.points import Pairs
from tasks.synful.training.sampling import check_reach, draw_place, learnable, places

SIZE = (40.0, 8.0, 8.0)
SHAPE, OUTPUT, CONTEXT = (10, 60, 60), (2, 8, 8), (2, 10, 10)
LONELY, CROWDED = (3, 20, 20), [(6, 40 + i, 40) for i in range(4)]


def cube(**more) -> Cube:
    post = np.array([LONELY, *CROWDED]) * SIZE
    return Cube("c", SIZE, Volume.of(np.zeros(SHAPE, np.uint8)), pairs=Pairs(post + 8, post), **more)


def begins(of: Cube, count: int = 300, with_points: float = 1.0, min_masked: float = 0.05) -> np.ndarray:
    room = places(of, OUTPUT, CONTEXT, pad=False)
    random = np.random.default_rng(0)
    return np.array([draw_place(of, room, OUTPUT, random, with_points=with_points, min_masked=min_masked) for _ in range(count)])


def held(drawn: np.ndarray, site: tuple[int, ...]) -> np.ndarray:
    return ((drawn <= site) & (np.array(site) < drawn + OUTPUT)).all(axis=1)


def test_inputs_stay_inside_unless_padded():
    assert places(cube(), OUTPUT, CONTEXT, pad=False) == Region((2, 10, 10), (7, 43, 43))
    assert places(cube(), OUTPUT, CONTEXT, pad=True) == Region((0, 0, 0), (9, 53, 53))
    drawn = begins(cube(), with_points=0)
    assert drawn.min(axis=0).tolist() == [2, 10, 10]
    assert drawn.max(axis=0).tolist() == [6, 42, 42]


def test_outputs_stay_where_targets_are_known():
    labelled = cube(labels=Volume.of(np.ones((8, 30, 60), np.uint8), (2, 10, 0)))
    assert places(labelled, OUTPUT, CONTEXT, pad=False) == Region((2, 10, 10), (7, 33, 43))


def test_a_cube_too_small_is_refused_with_both_sizes():
    with pytest.raises(InputError, match=r"\[12, 28, 28\] voxels of raw data .* \[10, 60, 60\]"):
        places(cube(), (8, 8, 8), CONTEXT, pad=False)


def test_samples_hold_a_site_and_crowds_are_not_favoured():
    drawn = begins(cube())
    lonely, crowded = held(drawn, LONELY), np.any([held(drawn, s) for s in CROWDED], axis=0)
    assert (lonely | crowded).all()
    assert 0.2 < lonely.mean() < 0.5, "of two places one is as likely as the other, were they of one size"
    assert (drawn[lonely] < LONELY).all(), "not on the lower faces"


def test_some_samples_are_drawn_anywhere():
    drawn = begins(cube(), with_points=0.5)
    holding = np.any([held(drawn, s) for s in (LONELY, *CROWDED)], axis=0)
    assert 0.4 < holding.mean() < 0.65


def test_masks_limit_samples():
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, 30:] = 1
    trained, judged = cube(mask=Volume.of(mask)), cube(validation_mask=Volume.of(mask))
    assert (begins(trained, 100, min_masked=0.5)[:, 2] >= 26).all()
    assert (begins(judged, 100, min_masked=0.5)[:, 2] <= 26).all()
    region = Region((0, 0, 28), (1, 1, 32))
    assert learnable(trained, region).ravel().tolist() == [False, False, True, True]
    assert learnable(judged, region).ravel().tolist() == [True, True, False, False]


def test_a_mask_that_excludes_everything_is_named():
    nothing = replace(cube(), mask=Volume.of(np.zeros(SHAPE, np.uint8)), pairs=Pairs(np.zeros((0, 3)), np.zeros((0, 3))))
    with pytest.raises(InputError, match="5% inside the training mask"):
        begins(nothing, 1)


def test_sites_that_no_sample_can_hold_are_named():
    room = places(cube(), OUTPUT, CONTEXT, pad=False)
    check_reach(cube(), room, OUTPUT)
    rim = replace(cube(), pairs=Pairs(np.zeros((1, 3)), np.array([[80.0, 400, 400]])))
    with pytest.raises(InputError, match=r"none of its 1 post-synaptic sites .* voxels \[3, 11, 11\] to \[8, 50, 50\]"):
        check_reach(rim, room, OUTPUT)
