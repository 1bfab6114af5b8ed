"""Pictures of partners: what is marked lies where the volume is bright."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tasks.synful.cutouts import Camera, read_padded, stretched

SIZE = (40, 4, 4)


def bright(*voxels):
    raw = np.zeros((30, 200, 200), np.uint8)
    for z, y, x in voxels:
        raw[z, y - 2 : y + 3, x - 2 : x + 3] = 255
    return raw


def looked_at(picture):
    """Grey values, place of the circle and the middle of the cross, as (x, y) pixels."""
    data = base64.b64decode(re.search(r"base64,([^\"]+)", picture)[1])
    circle = tuple(float(re.search(rf'{c}="([\d.-]+)"', picture)[1]) for c in ("cx", "cy"))
    arms = [
        (float(x) + 2.5 * int(dx), float(y) + 2.5 * int(dy)) for x, y, dx, dy in re.findall(r"M([\d.-]+) ([\d.-]+)l(-?\d) (-?\d)", picture)
    ]
    return np.array(Image.open(io.BytesIO(data))), circle, tuple(np.mean(arms, axis=0)) if arms else None


@pytest.mark.parametrize("offset", [(0, 0, 0), (4000, 800, 1200)])
@pytest.mark.parametrize("plane", [0, 1, 2])
def test_the_circle_is_on_the_post_site(plane, offset):
    raw, post, pre = bright((10, 100, 120)), (420, 402, 482), (460, 350, 430)
    shifted = [tuple(np.add(site, offset)) for site in (pre, post)]
    grey, (x, y), _ = looked_at(Camera(raw, SIZE, offset).pictures(*shifted)[plane])
    rows, columns = np.nonzero(grey > 200)
    assert abs(rows.mean() + 0.5 - y) < 3
    assert abs(columns.mean() + 0.5 - x) < 3


def test_the_last_picture_shows_the_section_of_the_pre_site():
    raw = bright((10, 100, 120), (12, 80, 100))
    pictures = Camera(raw, SIZE).pictures((500, 322, 402), (420, 402, 482))
    grey = looked_at(pictures[3])[0]
    rows, columns = np.nonzero(grey > 200)
    cross = re.findall(r"M([\d.-]+) ([\d.-]+)l", pictures[3])[:4]
    x, y = np.mean(np.array(cross, float), axis=0)
    assert (abs(columns.mean() + 0.5 - x), abs(rows.mean() + 0.5 - y)) < (3, 3)


def test_outside_the_volume_is_black():
    raw = np.full((30, 200, 200), 200, np.uint8)
    box = read_padded(raw, np.array([-2, -5, 190]), np.array([4, 10, 20]))
    assert (box[2:, 5:, :10] == 200).all()
    assert (np.count_nonzero(box), box.shape) == (2 * 5 * 10, (4, 10, 20))
    assert not read_padded(raw, np.array([50, 0, 0]), np.array([2, 2, 2])).any()


@pytest.mark.parametrize(("values", "expected"), [(np.arange(9, dtype=np.uint16) * 1000, (0, 255)), (np.full(9, 0.5, np.float32), (0, 0))])
def test_grey_values_are_stretched(values, expected):
    assert (stretched(values).min(), stretched(values).max()) == expected


def test_bytes_stay_as_they_are():
    raw = np.arange(8, dtype=np.uint8)
    assert stretched(raw) is raw
