import numpy as np
import pytest

from blockwise.errors import ConfigError
from tasks.synful.partners import cantor_ids, points
from tasks.synful.simulate import simulate_volume

SHAPE, SIZE = (14, 110, 110), (40.0, 8.0, 8.0)


@pytest.fixture(scope="module")
def made():
    return simulate_volume(SHAPE, SIZE, seed=3, synapses_per_um3=12)


def at(volume: np.ndarray, table, end: str) -> np.ndarray:
    return volume[tuple(np.floor_divide(points(table, end), SIZE).astype(int).T)]


def test_the_truth_is_that_of_the_picture(made):
    assert (made.raw.dtype, made.raw.shape, made.segmentation.shape) == (np.uint8, SHAPE, SHAPE)
    assert made.partners.num_rows >= 8
    for end in ("pre", "post"):
        assert at(made.segmentation, made.partners, end).tolist() == made.partners[f"segment_{end}"].to_pylist()
    assert all(a != b for a, b in zip(*(made.partners[f"segment_{e}"].to_pylist() for e in ("pre", "post")), strict=True))
    assert made.partners["id"].to_pylist() == cantor_ids(np.floor_divide(points(made.partners, "post"), SIZE).astype(int)).tolist()


def test_densities_are_dark(made):
    assert at(made.raw, made.partners, "pre").mean() < made.raw.mean() - 30


def test_partners_are_near(made):
    apart = np.linalg.norm(points(made.partners, "pre") - points(made.partners, "post"), axis=1)
    assert apart.min() > 30
    assert apart.max() < 230


def test_a_seed_decides_everything(made):
    again, other = simulate_volume(SHAPE, SIZE, seed=3, synapses_per_um3=12), simulate_volume(SHAPE, SIZE, seed=4)
    assert (again.raw == made.raw).all()
    assert again.partners.equals(made.partners)
    assert (other.raw != made.raw).any()


def test_it_looks_like_neurites(made):
    assert len(np.unique(made.segmentation)) > 10
    edge = made.segmentation[:, :, 1:] != made.segmentation[:, :, :-1]
    assert made.raw[:, :, 1:][edge].mean() < made.raw.mean() - 20, "membranes are dark"


def test_no_synapses_where_none_are_asked_for():
    assert simulate_volume(SHAPE, SIZE, seed=1, synapses_per_um3=0).partners.num_rows == 0


def test_too_small_a_volume_is_refused():
    with pytest.raises(ConfigError, match="holds no synapse"):
        simulate_volume((4, 110, 110), SIZE)
