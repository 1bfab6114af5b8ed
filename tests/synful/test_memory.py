from math import prod

import pytest

from blockwise.errors import InputError
from tasks.synful.memory import largest_input, peak_bytes, slab_sections
from tasks.synful.sizes import NetworkShape

FACTORS = ((1, 3, 3), (1, 3, 3), (3, 3, 3))
SETUP01 = NetworkShape(FACTORS, feature_maps=(4, 20, 100, 500))
SETUP03 = NetworkShape(FACTORS, feature_maps=(4, 20, 100, 500), decoders=2)


@pytest.mark.parametrize("shape", [SETUP01, SETUP03])
@pytest.mark.parametrize("memory", [5e8, 4e9, 6.4e10])
def test_the_largest_input_fills_the_memory(shape, memory):
    core = largest_input(int(memory), shape)
    assert all(n % p == 0 for n, p in zip(core, shape.product, strict=True))
    assert 0.75 * memory < peak_bytes(shape, shape.aligned_input(core)[0]) <= memory


def test_more_memory_means_less_context():
    shares = [prod(core) / prod(SETUP01.aligned_input(core)[0]) for core in (largest_input(int(m), SETUP01) for m in (5e8, 2e9, 8e9))]
    assert shares == sorted(shares)


def test_a_domain_bounds_the_block():
    assert largest_input(int(6e10), SETUP01, domain=(20, 300, 1024)) == (21, 324, 1026)
    core = largest_input(int(1e9), SETUP01, domain=(125, 1250, 1250))
    assert all(c <= n + p for c, n, p in zip(core, (125, 1250, 1250), SETUP01.product, strict=True))


def test_fewer_bytes_per_value_take_larger_blocks():
    assert prod(largest_input(int(2e9), SETUP01, item_bytes=2)) > prod(largest_input(int(2e9), SETUP01))


def test_too_little_memory_is_refused_with_both_numbers():
    with pytest.raises(InputError, match=r"0\.05 GB of memory: the smallest block .* 39 x 241 x 241 voxels, needs 0\.\d\d GB"):
        largest_input(50_000_000, SETUP01)


@pytest.mark.parametrize("axis", range(3))
def test_the_peak_grows_with_the_input(axis):
    sizes = [[n + k * p * (axis == a) for a, (n, p) in enumerate(zip((42, 430, 430), SETUP01.product, strict=True))] for k in range(9)]
    peaks = [peak_bytes(SETUP01, s) for s in sizes]
    assert peaks == sorted(peaks)
    assert peak_bytes(SETUP03, sizes[0]) > peaks[0]


@pytest.mark.parametrize(("maps", "multiple"), [(4, 1), (4, 3), (500, 1), (500, 3)])
def test_slabs_are_whole_poolings(maps, multiple):
    assert slab_sections(maps, (1000, 1000), multiple) >= 8
    assert slab_sections(maps, (10, 10), multiple) % multiple == 0
