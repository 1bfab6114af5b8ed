from dataclasses import dataclass, field

import numpy as np
import pytest

from blockwise.errors import InputError
from blockwise.geometry import Region
from tasks.synful.histogram import (
    bins_for,
    block_counts,
    check_voxel_size,
    combine,
    contrast_remarks,
    histogram_text,
    percentiles,
    sample_histogram,
    sample_regions,
    section_counts,
    sparkline,
)

PERCENTS = (1, 5, 25, 50, 75, 95, 99)


@dataclass
class InMemory:
    data: np.ndarray
    chunks: tuple[int, ...] | None = None
    regions: list[Region] = field(default_factory=list)

    @property
    def shape(self):
        return self.data.shape

    @property
    def dtype(self):
        return self.data.dtype

    def inside(self, region):
        self.regions.append(region)
        return self.data[region.slices]


@pytest.fixture
def grey():
    return np.random.default_rng(2).normal(120, 25, (12, 300, 310)).clip(1, 255).astype(np.uint8)


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 1), ("uint16", 200), ("float32", 1 / 255), ("int16", -30)])
def test_percentiles_of_counts(grey, dtype, scale):
    raw = (grey * np.float64(scale)).astype(dtype)
    bins = bins_for(dtype, (float(raw.min()), float(raw.max())))
    found = percentiles(block_counts(raw, bins), bins, PERCENTS)
    smooth = raw + (np.random.default_rng(0).random(raw.shape) - 0.5) * abs(scale)
    assert found == pytest.approx(np.percentile(smooth, PERCENTS), abs=2 * bins.width + abs(scale))


def test_counts_of_blocks_add_up(grey):
    bins = bins_for(grey.dtype, (0, 255))
    parts = [block_counts(grey[:, y : y + 77], bins) for y in range(0, 300, 77)]
    assert np.array_equal(combine(parts), block_counts(grey, bins))
    assert np.array_equal(section_counts(grey, bins).sum(axis=0), block_counts(grey, bins))
    with pytest.raises(InputError, match="no block was counted"):
        combine([])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_zeros_and_missing_numbers_do_not_count(grey, dtype):
    raw = grey.astype(dtype)
    raw[:6] = 0
    if dtype == "float32":
        raw[6] = np.nan
    bins = bins_for(dtype, (0, 255))
    assert np.array_equal(block_counts(raw, bins), block_counts(raw[7:] if dtype == "float32" else raw[6:], bins))


def test_nothing_counted_has_no_percentiles():
    bins = bins_for("uint8", (0, 0))
    assert np.isnan(percentiles(np.zeros(256, np.int64), bins, PERCENTS)).all()


def test_values_outside_the_sample_count_at_the_ends():
    bins = bins_for("float32", (0.0, 1.0))
    counts = block_counts(np.array([[[-9, 0.5, 9]]], np.float32), bins)
    assert (counts[0], counts[-1], counts.sum()) == (1, 1, 3)


@pytest.mark.parametrize("shape", [(12, 300, 310), (1, 5, 5), (7000, 20000, 20000)])
def test_samples_are_few_spread_and_the_same_every_time(shape):
    regions = sample_regions(shape, 1)
    assert regions == sample_regions(shape, 1)
    assert len(regions) <= 64
    assert sum(r.size for r in regions) <= 64 * 65536
    assert all(Region((0, 0, 0), shape).contains(r) for r in regions)
    begins = np.array([r.begin for r in regions])
    assert (begins.max(axis=0) >= 0.9 * (np.array(shape) - regions[0].shape)).all()


def test_huge_pages_make_a_small_sample():
    assert len(sample_regions((7000, 30000, 30000), 1, (1, 30000, 30000))) == 4


def test_the_sample_stands_for_the_volume(grey):
    raw = InMemory(grey)
    found = sample_histogram(raw)
    assert found.places == len(raw.regions)
    assert found.percentiles((50,))[50] == pytest.approx(np.median(grey) / 255, abs=0.005)
    with pytest.raises(InputError, match="are 0: is this the raw volume"):
        sample_histogram(InMemory(np.zeros_like(grey)))


def test_bars():
    assert sparkline({0: 0.25, 100: 0.5}, bars=8) == "  ██    "
    assert sparkline({0: 0.0, 50: 0.5, 100: 0.5 + 1e-9}, bars=4) == "▄▄█ "
    assert len(sparkline({0: 2.0, 100: 3.0})) == 32


def test_text_of_the_plan(grey):
    found = sample_histogram(InMemory(grey))
    ours, unknown = histogram_text(found, None)
    assert "50 % 0.47" in ours
    assert "no raw_percentiles are stored with the model" in unknown
    assert histogram_text(found, {5.0: 0.3, 50.0: 0.5, 95.0: 0.7})[1].endswith("5 % 0.30  50 % 0.50  95 % 0.70")


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (None, []),
        ({5.0: 0.31, 50.0: 0.47, 95.0: 0.63}, []),
        ({5.0: 0.51, 50.0: 0.67, 95.0: 0.83}, ["median grey value is 0.47, the network was trained at 0.67"]),
        ({5.0: 0.05, 50.0: 0.5, 95.0: 0.95}, [r"0.36 times that of the training"]),
    ],
)
def test_other_contrast_is_told(grey, trained, words):
    remarks = contrast_remarks(sample_histogram(InMemory(grey)), trained)
    assert len(remarks) == len(words)
    assert all(w in r for w, r in zip(words, remarks, strict=True))


@pytest.mark.parametrize(
    ("found", "resample", "words"),
    [
        ((40, 4, 4), False, None),
        ((43, 4.3, 3.7), False, None),
        ((45, 4.6, 4.6), False, "15% off: results may suffer"),
        ((45, 8.6, 8.6), True, "is resampled"),
        ((40, 4, 4), True, None),
    ],
)
def test_voxel_sizes_near_the_trained_one(found, resample, words):
    remarks = check_voxel_size(found, (40, 4, 4), resample=resample)
    assert len(remarks) == (words is not None)
    assert not remarks or words in remarks[0]


@pytest.mark.parametrize("found", [(45, 8.6, 8.6), (10, 10, 10), (40, 4, 2)])
def test_other_voxel_sizes_are_refused(found):
    with pytest.raises(InputError, match=r"trained at 40 x 4 x 4 nm, \d+% off: set \[input\] resample"):
        check_voxel_size(found, (40, 4, 4))
