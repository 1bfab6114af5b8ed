import json

import numpy as np
import pytest

from blockwise.errors import InputError
from tasks.synful.histogram import bins_for, block_counts, section_counts
from tasks.synful.normalisation import Normalisation, freeze_match, freeze_percentile, freeze_sections

TRAINED = {1.0: 0.2, 50.0: 0.5, 99.0: 0.9}


@pytest.fixture
def grey():
    """(z, y, x) uint8 around 100, far from 0 and 255; sections 10 brighter from one to the next."""
    noise = np.random.default_rng(1).normal(100, 12, (6, 90, 80))
    return (noise + 10 * np.arange(6)[:, None, None]).clip(1, 255).astype(np.uint8)


def counted(raw):
    bins = bins_for(raw.dtype, (float(raw.min()), float(raw.max())))
    return block_counts(raw, bins), bins


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (np.arange(256, dtype=np.uint8), np.arange(256).astype(np.float32) * np.float32(1 / 255) * 2 - 1),
        (np.array([0, 1, 65535], np.uint16), np.array([-1, 2 / 65535 - 1, 1], np.float32)),
        (np.array([0, 0.25, 1], np.float32), np.array([-1, -0.5, 1], np.float32)),
    ],
    ids=["uint8", "uint16", "float32"],
)
def test_by_dtype(raw, expected):
    found = Normalisation().apply(raw.reshape(1, 1, -1))
    assert found.dtype == np.float32
    assert np.array_equal(found.ravel(), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.array([0.5, 1.5], np.float32), "from 0.5 to 1.5"),
        (np.array([-0.1, 1], np.float32), "from -0.1 to 1"),
        (np.array([0, np.nan], np.float32), "from nan to nan"),
        (np.array([0, 1], np.float64), "float64"),
        (np.array([0, 1], np.int16), "int16"),
    ],
)
def test_what_has_no_scale_is_refused(raw, message):
    with pytest.raises(InputError, match=message):
        Normalisation().apply(raw.reshape(1, 1, -1))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16"])
def test_percentiles_become_the_range(grey, dtype):
    raw = grey.astype(dtype)
    found = freeze_percentile(*counted(raw)).apply(raw)
    low, high = np.percentile(raw, (1, 99))
    assert (found.min(), found.max()) == (-1, 1)
    assert found.mean() == pytest.approx(2 * (raw.mean() - low) / (high - low) - 1, abs=0.03)
    order = np.argsort(raw, axis=None)
    assert (np.diff(found.ravel()[order]) >= 0).all()


def test_match_gives_the_percentiles_of_the_training(grey):
    found = freeze_match(*counted(grey), TRAINED).apply(grey)
    assert np.percentile((found + 1) / 2, (1, 50, 99)) == pytest.approx([0.2, 0.5, 0.9], abs=0.02)


def test_the_outermost_percentiles_are_not_a_wall(grey):
    how = freeze_match(*counted(grey), TRAINED)
    darker = how.apply(np.array([[[0, 20, 40, int(how.found[0][0])]]], np.uint8)).ravel()
    assert darker[0] == -1
    assert (np.diff(darker) >= 0).all()
    assert darker[2] < darker[3]


def test_match_needs_a_reference(grey):
    with pytest.raises(InputError, match="no raw_percentiles"):
        freeze_match(*counted(grey), None)


@pytest.mark.parametrize("trained", [None, TRAINED])
def test_sections_become_alike(grey, trained):
    grey[2] = 0
    grey[4] = 77
    bins = bins_for(grey.dtype, (0, 255))
    how = freeze_sections(section_counts(grey, bins), bins, grey.dtype, trained)
    how.check(grey.dtype, 6)
    medians = np.median(how.apply(grey), axis=(1, 2))
    assert np.ptp(medians[[0, 1, 3, 5]]) < 0.03
    expected = trained[50.0] if trained else np.median(grey[grey > 0]) / 255
    assert (medians[0] + 1) / 2 == pytest.approx(expected, abs=0.02)
    assert np.array_equal(how.apply(grey[3:5], first_section=3), how.apply(grey)[3:5])
    with pytest.raises(InputError, match="of 6 sections, the volume has 7"):
        how.check(grey.dtype, 7)


def test_a_volume_without_contrast_is_refused(grey):
    with pytest.raises(InputError, match="there is no contrast"):
        freeze_percentile(*counted(np.zeros_like(grey)))


def test_a_frozen_normalisation_survives_json(grey):
    for how in (Normalisation(), freeze_percentile(*counted(grey)), freeze_match(*counted(grey), TRAINED)):
        assert Normalisation.from_json(json.loads(json.dumps(how.to_json()))) == how
    assert Normalisation().to_json() == {"method": "dtype"}


@pytest.mark.parametrize(
    ("value", "message"),
    [({"method": "mean"}, "none of dtype"), ({"method": "match"}, "not frozen yet"), ({"methods": "dtype"}, "no key methods")],
)
def test_unusable_json_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        Normalisation.from_json(value)
