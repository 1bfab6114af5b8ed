import re
from xml.etree import ElementTree

import pytest

from blockwise.monitor import svg
from blockwise.status import MAP_CELLS, HistoryPoint


def history(*done, every_s=10.0):
    return [HistoryPoint(1.79e9 + every_s * i, n, 0) for i, n in enumerate(done)]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0, "pending"),
        (1, "part1"),
        (33, "part1"),
        (34, "part2"),
        (67, "part3"),
        (99, "part3"),
        (100, "done"),
        (200, "running"),
        (255, "failed"),
    ],
)
def test_kinds_of_cells(value, kind):
    assert svg.cell_kind(value) == kind


@pytest.mark.parametrize(("cells", "across", "down"), [(1, 2, 1), (8, 4, 2), (9, 5, 2), (MAP_CELLS, 64, 32)])
def test_the_map_is_twice_as_wide_as_high(cells, across, down):
    picture = ElementTree.fromstring(svg.block_map([100] * cells))
    assert picture.get("viewBox") == f"0 0 {across * 10} {down * 10}"
    assert picture[0].get("d").count("M") == cells


def test_each_cell_is_drawn_once_in_its_place():
    picture = ElementTree.fromstring(svg.block_map([0, 100, 255, 200, 0, 50, 100, 0], side=10))
    drawn = {p.get("class"): re.findall(r"M(\d+) (\d+)", p.get("d")) for p in picture}
    assert drawn["failed"] == [("20", "0")]
    assert drawn["done"] == [("10", "0"), ("20", "10")]
    assert sum(map(len, drawn.values())) == 8


def test_the_largest_map_stays_small():
    assert len(svg.block_map([i % 256 for i in range(MAP_CELLS)])) < 60_000


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        (history(5), []),
        (history(0, 100, 300), [(10, 10), (20, 20)]),
        ([HistoryPoint(1, 0, 0), HistoryPoint(1, 5, 0)], []),
    ],
)
def test_rates(points, expected):
    assert svg.rates(points) == expected


def test_a_long_history_is_averaged():
    curve = svg.rates(history(*range(0, 70_000, 7), every_s=1.0))
    assert len(curve) <= svg.POINTS
    assert curve[-1] == (9999, pytest.approx(7))


@pytest.mark.parametrize(("top", "step"), [(1, 0.2), (4.9, 1), (5.1, 2), (23, 5), (99, 20), (1234, 500), (0.03, 0.01)])
def test_grid_lines_are_round(top, step):
    assert svg.nice_step(top) == pytest.approx(step)
    assert 2 <= top / svg.nice_step(top) <= 5


@pytest.mark.parametrize("points", [history(0, 100, 300), history(7, 7, 7), history(*range(500))])
def test_the_curve_stays_inside_its_picture(points):
    picture = ElementTree.fromstring(svg.throughput(points))
    (line,) = [p.get("d") for p in picture.iter("path") if p.get("class") == "rate"]
    for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", line):
        assert svg.LEFT <= float(x) <= svg.WIDTH - svg.RIGHT
        assert svg.TOP <= float(y) <= svg.HEIGHT - svg.FOOT


def test_no_curve_from_one_point():
    assert svg.throughput(history(5)) == ""


@pytest.mark.parametrize(("total", "widths"), [(10.0, [20, 50]), (0.0, [0, 0])])
def test_a_stack_is_as_long_as_its_parts(total, widths):
    bar = ElementTree.fromstring(svg.stack([("read", 2.0), ("compute", 5.0)], total))
    assert [float(part.get("width")) for part in bar] == widths
