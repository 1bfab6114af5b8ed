import warnings

import numpy as np
import pytest

from tasks.cascade.noise import looks_like_percent, noise_levels

NAN = float("nan")
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("row", "steps"),
    [
        ([0.0, 1.0, 3.0], 1.5),
        ([0.0, 1.0, 3.0, 2.0], 1.0),
        ([0.0, NAN, 3.0, 5.0], 2.0),
        ([NAN, 1.0, NAN, 2.0], NAN),
        ([NAN] * 4, NAN),
        ([1.0], NAN),
        ([], NAN),
    ],
)
def test_noise_is_the_median_step_of_present_frames(row, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert noise_levels(np.array([row]), 25.0) == pytest.approx([100 * steps / 5], nan_ok=True)


@pytest.mark.parametrize(("dtype", "result"), [("f4", "f4"), ("f8", "f8"), ("f2", "f2"), ("i4", "f8"), ("u1", "f8")])
def test_noise_is_computed_in_the_dtype_of_the_traces(dtype, result):
    traces = (RANDOM.random((3, 50)) * 100).astype(dtype)
    levels = noise_levels(traces, 30)
    assert levels.dtype == result
    wanted = 100 * np.nanmedian(np.abs(np.diff(traces.astype(result))), axis=1) / np.sqrt(30)
    np.testing.assert_allclose(levels, wanted, rtol=2e-3 if dtype == "f2" else 1e-6)


def test_one_row_gives_a_scalar():
    row = RANDOM.normal(size=100)
    assert noise_levels(row, 30) == noise_levels(row[None], 30)[0]
    assert np.ndim(noise_levels(row, 30)) == 0


@pytest.mark.parametrize(
    ("traces", "percent"),
    [
        (RANDOM.normal(0, 0.1, (5, 200)), False),
        (RANDOM.normal(0, 10, (5, 200)), True),
        (RANDOM.normal(0, 10, 200), True),
        (RANDOM.normal(0, 10, (5, 200)) * [[1], [1], [NAN], [1], [1]], True),
        # bright but clean, one wild row, nothing to judge
        (3 * np.sin(np.linspace(0, 60, 600))[None], False),
        (RANDOM.normal(0, 0.1, (3, 200)) * [[1], [1], [500]], False),
        (np.full((2, 10), NAN), False),
        (np.zeros((0, 10)), False),
    ],
)
def test_percent_is_told_from_fractions(traces, percent):
    assert looks_like_percent(traces) is percent
