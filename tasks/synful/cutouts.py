"""Pictures of single partners: planes of the raw volume through both sites, the sites marked, as inline SVG around a PNG."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region

if TYPE_CHECKING:
    pass

Array = npt.NDArray[Any]
Point = npt.NDArray[np.float64]
PLANES = {"xy": 0, "xz": 1, "yz": 2}
"""Planes by the axis (of z, y, x) that they cut; the other two axes run down and to the right."""

POST, PRE = "#56B4E9", "#E69F00"
"""Colours of the marks, which the colour-blind tell apart, on grey."""

BAR_NM: int = 200


@dataclass(frozen=True, slots=True)
class Camera:
    """Where pictures are taken.

    Parameters
    ----------
    raw : (z, y, x), an array or an open source.
    voxel_size, offset : nm, z y x.
    radius_nm : from the middle of a picture to its sides.
    pixels : of a picture's side.
    """

    raw: Any
    voxel_size: tuple[float, ...]
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    radius_nm: float = 300.0
    pixels: int = 220

    def pictures(self, pre: Sequence[float], post: Sequence[float]) -> list[str]:
        """Four pictures, as SVG: three planes through the post site, and xy through the pre site.

        Parameters
        ----------
        pre, post : nm, z y x. Pictures are centred between them; what lies outside the volume is black.
        """
        sites = np.asarray(pre, np.float64), np.asarray(post, np.float64)
        begin = np.floor(((sites[0] + sites[1]) / 2 - self.radius_nm - self.offset) / self.voxel_size).astype(np.int64)
        shape = np.ceil(2 * self.radius_nm / np.asarray(self.voxel_size)).astype(np.int64)
        box = stretched(read_padded(self.raw, begin, shape))
        views = [*((plane, sites[1], "post") for plane in PLANES), ("xy", sites[0], "pre")]
        return [self._picture(box, begin, (plane, through, name), sites) for plane, through, name in views]

    def _picture(self, box: Array, begin: npt.NDArray[np.int64], view: tuple[str, Point, str], sites: tuple[Point, Point]) -> str:
        plane, through, name = view
        axis, size = PLANES[plane], np.asarray(self.voxel_size)
        corner = begin * size + self.offset
        section = int(np.clip((through[axis] - corner[axis]) // size[axis], 0, box.shape[axis] - 1))
        down, right = [a for a in range(3) if a != axis]
        if plane == "yz":
            down, right = right, down
        plane_of_box = np.take(box, section, axis)
        grey = plane_of_box.T if plane == "yz" else plane_of_box
        scale = self.pixels / (grey.shape[1] * size[right])
        width, height = self.pixels, max(1, round(grey.shape[0] * size[down] * scale))
        places = [((site[right] - corner[right]) * scale, (site[down] - corner[down]) * scale) for site in sites]
        return _svg(png(grey, (width, height)), (width, height), places, (f"{plane} through {name}", BAR_NM * scale))


def read_padded(raw: Any, begin: npt.NDArray[np.int64], shape: npt.NDArray[np.int64]) -> Array:
    """A box of a volume that may stick out; 0 where it does."""
    wanted = Region(tuple(begin.tolist()), tuple((begin + shape).tolist()))
    inside = wanted.intersect(Region((0, 0, 0), tuple(raw.shape)))
    box = np.zeros(wanted.shape, raw.dtype)
    if inside.size:
        values = raw[inside.slices] if isinstance(raw, np.ndarray) else raw.read(inside)
        box[inside.shift([-b for b in wanted.begin]).slices] = values
    return box


def stretched(box: Array) -> npt.NDArray[np.uint8]:
    """Grey values as bytes, from the darkest two of a thousand to the brightest two; bytes stay as they are."""
    if box.dtype == np.uint8:
        return box
    low, high = np.quantile(box, (0.002, 0.998))
    return np.asarray(np.clip((box - low) / max(high - low, 1e-12), 0, 1) * 255, np.uint8)


def png(grey: npt.NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """A PNG of (width, height) pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.BILINEAR).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _svg(image: bytes, size: tuple[int, int], places: Sequence[tuple[float, float]], words: tuple[str, float]) -> str:
    (width, height), (pre, post), (title, bar) = size, places, words
    data = base64.b64encode(image).decode()
    arms = "".join(f"M{pre[0] + 4 * x:.1f} {pre[1] + 4 * y:.1f}l{5 * x} {5 * y}" for x, y in ((1, 1), (-1, 1), (1, -1), (-1, -1)))
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"><title>{title}</title>'
        f'<image href="data:image/png;base64,{data}" width="{width}" height="{height}"/>'
        f'<circle cx="{post[0]:.1f}" cy="{post[1]:.1f}" r="8" fill="none" stroke="{POST}" stroke-width="2"/>'
        f'<path d="{arms}" stroke="{PRE}" stroke-width="2.5"/>'
        f'<path d="M6 {height - 6}h{bar:.1f}" stroke="#fff" stroke-width="3"/>'
        f'<text x="6" y="14">{title}</text></svg>'
    )
