import pytest

from blockwise.errors import InputError
from tasks.synful.sizes import NetworkShape

FACTORS = ((1, 3, 3), (1, 3, 3), (3, 3, 3))
SETUP01 = NetworkShape(FACTORS)
FLAT = NetworkShape(FACTORS, ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)))
SMALL = NetworkShape(((1, 2, 2), (2, 2, 2)))
NO_POOLING = NetworkShape(())


def test_the_published_networks():
    assert (SETUP01.product, SETUP01.smallest_input, SETUP01.smallest_output) == ((3, 27, 27), (39, 214, 214), (3, 2, 2))
    assert (SETUP01.field_of_view, SETUP01.before) == ((37, 213, 213), (18, 106, 106))
    assert SETUP01.aligned_context == ((18, 18), (106, 108), (106, 108))
    assert SETUP01.output_shape((90, 1132, 1132)) == (54, 920, 920)


def test_layers_of_setup01():
    walk = SETUP01.walk((42, 430, 430))
    assert walk.left == ((38, 426, 426), (34, 138, 138), (30, 42, 42))
    assert (walk.bottom, walk.up) == ((6, 10, 10), ((10, 222, 222), (14, 78, 78), (18, 30, 30)))
    assert walk.right == ((6, 218, 218), (10, 74, 74), (14, 26, 26))
    assert walk.output == (6, 218, 218)


@pytest.mark.parametrize("shape", [SETUP01, FLAT, SMALL, NO_POOLING, NetworkShape(FACTORS, crop_to_factor=True)])
@pytest.mark.parametrize("cells", [(1, 1, 1), (2, 3, 8)])
def test_an_aligned_input_covers_its_core(shape, cells):
    core = tuple(n * p for n, p in zip(cells, shape.product, strict=True))
    found, before, after = shape.aligned_input(core)
    assert found == tuple(b + c + a for b, c, a in zip(before, core, after, strict=True))
    output = shape.output_shape(found)
    assert all(0 <= o - c < p for o, c, p in zip(output, core, shape.product, strict=True))
    assert shape.input_shape_for(output) == found


def test_a_flat_network_needs_fewer_sections():
    assert FLAT.before[0] < SETUP01.before[0]
    assert FLAT.before[1:] == SETUP01.before[1:]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: SETUP01.aligned_input((6, 218, 218)), "core of 6 x 218 x 218 .* 3 x 27 x 27; the next is 6 x 243 x 243"),
        (lambda: SETUP01.aligned_input((0, 27, 27)), "the next is 3 x 27 x 27"),
        (lambda: SETUP01.output_shape((42, 430, 100)), "100 along x is too short; the nearest are 214 and 241"),
        (lambda: SETUP01.output_shape((30, 430, 430)), "30 along z is too short; the nearest are 39 and 42"),
        (lambda: SETUP01.input_shape_for((6, 216, 218)), "along y the network gives 191 and 218, not 216"),
        (lambda: NetworkShape(FACTORS, crop_to_factor=True).output_shape((45, 431, 430)), "427 to pool by 3.*430 and 457"),
        (lambda: NetworkShape(FACTORS, ((3, 3, 3),)), "1 kernels for 4 levels"),
        (lambda: NetworkShape(((1, 0, 2),)), "1 or more is wanted"),
        (lambda: NetworkShape((), ((2, 3, 3),)), r"kernel \[2, 3, 3\]: odd lengths only"),
    ],
)
def test_what_does_not_fit_is_refused(call, why):
    with pytest.raises(InputError, match=why):
        call()
