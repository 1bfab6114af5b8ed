"""Pictures of a run as inline SVG: the block map and throughput over time. They take their colours from style.css, dark or light."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor, log10, sqrt

from blockwise.monitor.text import human_rate, human_seconds
from blockwise.status import HistoryPoint

RUNNING: int = 200
FAILED: int = 255

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, FOOT = 56, 8, 10, 24
POINTS: int = 240
"""Most points of a curve; a longer history is averaged between every so many."""


def cell_kind(value: int) -> str:
    """The class of a map cell: pending, part1 to part3 (thirds done), done, running or failed."""
    if value in (RUNNING, FAILED):
        return "running" if value == RUNNING else "failed"
    return "pending" if value <= 0 else "done" if value >= 100 else f"part{1 + value * 3 // 100}"


def block_map(cells: Sequence[int], side: int = 10) -> str:
    """The block map, row-major, twice as wide as high; one path per kind of cell keeps it below 60 kB."""
    across = max(1, ceil(sqrt(2 * len(cells))))
    paths: dict[str, list[str]] = {}
    for i, value in enumerate(cells):
        x, y = i % across * side, i // across * side
        paths.setdefault(cell_kind(value), []).append(f"M{x} {y}h{side - 1}v{side - 1}h-{side - 1}z")
    width, height = across * side, ceil(len(cells) / across) * side
    shapes = "".join(f'<path class="{kind}" d="{"".join(parts)}"/>' for kind, parts in sorted(paths.items()))
    return _svg(width, height, shapes, "block map")


def rates(history: Sequence[HistoryPoint]) -> list[tuple[float, float]]:
    """(seconds since the first point, blocks per second) between successive points; at most `POINTS`.

    A driver that starts again after a break continues the history, so a break shows as a low rate over its whole length.
    """
    step = max(1, ceil((len(history) - 1) / POINTS))
    kept = [*history[:-1:step], history[-1]] if history else []
    return [
        (after.at_s - history[0].at_s, (after.blocks_done - before.blocks_done) / (after.at_s - before.at_s))
        for before, after in pairwise(kept)
        if after.at_s > before.at_s
    ]


def throughput(history: Sequence[HistoryPoint]) -> str:
    """Blocks per second over time; an empty string where there are fewer than two points."""
    curve = rates(history)
    if not curve:
        return ""
    top, end_s = max(max(rate for _, rate in curve), 1e-9), curve[-1][0]
    step = nice_step(top)

    def at(seconds: float, rate: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * seconds / end_s:.1f} {HEIGHT - FOOT - (HEIGHT - FOOT - TOP) * rate / top:.1f}"

    line = "L".join(at(*point) for point in [(0.0, curve[0][1]), *curve])
    grid = "".join(_level(at(0, k * step), k * step) for k in range(floor(top / step) + 1))
    times = "".join(_time(at(share * end_s, 0), share * end_s) for share in (0, 0.25, 0.5, 0.75, 1))
    shapes = f'{grid}<path class="area" d="M{at(0, 0)}L{line}L{at(end_s, 0)}z"/><path class="rate" d="M{line}"/>{times}'
    return _svg(WIDTH, HEIGHT, shapes, "blocks per second over time")


def nice_step(top: float) -> float:
    """The distance of grid lines, 1, 2 or 5 times a power of ten, that gives two to five of them below `top`."""
    power: float = 10.0 ** floor(log10(top))
    return next(step for step in (power / 5, power / 2, power, 2 * power) if top / step <= 5)


def stack(parts: Sequence[tuple[str, float]], total: float, *, style: str = "stack") -> str:
    """A horizontal bar: (class, length) side by side, `total` is full."""
    shapes, x = "", 0.0
    for kind, length in parts:
        width = 100 * length / total if total > 0 else 0.0
        shapes += f'<rect class="{kind}" x="{x:.3f}" width="{width:.3f}" height="10"/>'
        x += width
    return f'<svg class="{style}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{shapes}</svg>'


def _level(origin: str, rate: float) -> str:
    x, y = map(float, origin.split())
    label = f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{human_rate(rate)}</text>'
    return f'<path class="axis" d="M{x} {y}H{WIDTH - RIGHT}"/>{label}'


def _time(foot: str, seconds: float) -> str:
    x, y = map(float, foot.split())
    anchor = "end" if x > WIDTH - 40 else "middle" if seconds else "start"
    return f'<text x="{x}" y="{y + 17}" text-anchor="{anchor}">{human_seconds(seconds) if seconds else "0"}</text>'


def _svg(width: int, height: int, shapes: str, label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{shapes}</svg>'
