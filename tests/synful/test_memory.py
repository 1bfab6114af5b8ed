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
    with pytest.raises(InputError, match=r"50 MB of memory: the smallest block .* 39 x 241 x 241 voxels, needs \d\d\d MB"):
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


HALOS = [(3, 27, 27), (6, 54, 54), (3, 135, 135)]


def tile_bytes(core, halo):
    return peak_bytes(SETUP01, SETUP01.aligned_input([c + 2 * h for c, h in zip(core, halo, strict=True)])[0])


@pytest.mark.parametrize("share", [1.0, 1.3, 4.0, 20.0])
@pytest.mark.parametrize("halo", HALOS)
def test_a_block_fits_with_its_halo_and_is_no_smaller(share, halo):
    memory = int(share * tile_bytes(halo, halo)) + 1
    core = largest_input(memory, SETUP01, domain=(125, 1250, 1250), halo=halo)
    assert all(c >= h and c % p == 0 for c, h, p in zip(core, halo, SETUP01.product, strict=True))
    assert tile_bytes(core, halo) <= memory


@pytest.mark.parametrize("halo", HALOS)
def test_a_halo_that_does_not_fit_is_refused_with_both_numbers(halo):
    inputs = " x ".join(map(str, SETUP01.aligned_input([3 * h for h in halo])[0]))
    with pytest.raises(InputError, match=rf"[MG]B of memory: .* an input of {inputs} voxels, needs [0-9.]+ [MG]B: set \[blocks\] memory"):
        largest_input(tile_bytes(halo, halo) - 1, SETUP01, domain=(125, 1250, 1250), halo=halo)


def test_the_smallest_volume_has_a_block():
    assert largest_input(int(6e10), SETUP01, domain=(1, 1, 1), halo=(6, 27, 54)) == (6, 27, 54)


def test_two_networks_are_tiled_by_both_products():
    core = largest_input(int(2e9), SETUP01, step=(6, 54, 54))
    assert [n % s for n, s in zip(core, (6, 54, 54), strict=True)] == [0, 0, 0]
    assert peak_bytes(SETUP01, SETUP01.aligned_input(core)[0]) <= 2e9
