"""Images as arrays: a PNG or JPEG file, and folders of images that are the sections of a volume.

A stack is (z, y, x), colour images add a last axis c. Its sections are the images of a folder, or those that a glob names, in the order
of the numbers in their names: `s2.png` comes before `s10.png`. Only headers are read when a stack is opened. Images say nothing that can be
trusted about the size of their pixels, TIFF excepted.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.errors import InputError, MissingError, StorageError
from blockwise.storage.pages import Page, check_alike, page_source, pillow
from blockwise.storage.placement import Placement
from blockwise.storage.source import Array, ArraySource
from blockwise.storage.tiff import check_codec, open_tiff, tiff_page, tiff_placement

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg")
HEADERS_AT_ONCE: int = 8

PIXELS = {"L": ((), "u1"), "I;16": ((), "<u2"), "I;16B": ((), ">u2"), "I": ((), "i4"), "F": ((), "f4")} | {
    "LA": ((2,), "u1"),
    "RGB": ((3,), "u1"),
    "RGBA": ((4,), "u1"),
}
"""Pillow's modes that are read as they are: channels and dtype."""


def natural_key(name: str) -> tuple[Any, ...]:
    """Sorts names by the numbers in them; equal numbers (`1`, `01`) by the text."""
    parts = re.split(r"(\d+)", name)
    return tuple(int(p) if i % 2 else p for i, p in enumerate(parts)), name


def image_files(location: Path) -> list[Path]:
    """The images of a folder, or those that a pattern with `*`, `?` or `[...]` in it names, in natural order; empty where there are none.

    Raises
    ------
    InputError : images of several formats, of which no stack is made.
    """
    found = location.iterdir() if location.is_dir() else _matching(location)
    files = sorted((f for f in found if f.suffix.lower() in SUFFIXES and f.name[0] != "."), key=lambda f: natural_key(str(f)))
    kinds = sorted({f.suffix.lower()[:4] for f in files})
    if len(kinds) > 1:
        raise InputError(f"{location} holds images of {len(kinds)} formats ({', '.join(kinds)}): name one as {location.name}/*{kinds[0]}")
    return [f for f in files if f.is_file()]


def is_pattern(location: Path) -> bool:
    """Whether a path that does not exist is meant as a glob."""
    return any(c in str(location) for c in "*?[") and not location.exists()


def _matching(pattern: Path) -> list[Path]:
    import glob

    return [Path(f) for f in glob.glob(str(pattern))]


def open_stack(path: str, files: Sequence[Path]) -> ArraySource:
    """Images of one shape and dtype as a volume (z, y, x), or (z, y, x, c) in colour.

    A single file is opened as what it is: a TIFF of many pages, or an image.

    Raises
    ------
    MissingError : no file.  InputError : an image that cannot be read, or unlike the first; names it.
    """
    from concurrent.futures import ThreadPoolExecutor

    if not files:
        raise MissingError(f"{path} names no image ({', '.join(SUFFIXES)})")
    if len(files) == 1:
        return open_tiff(path, files[0]) if _is_tiff(files[0]) else open_image(path, files[0])
    with ThreadPoolExecutor(HEADERS_AT_ONCE) as pool:
        pages = list(pool.map(_page, files))
    check_alike(path, pages)
    section = _tiff_section(files[0]) if _is_tiff(files[0]) else _plane(pages[0])
    placement = Placement(("z", *section.axes), (1.0, *section.voxel_size), (0.0, *section.offset), ("", *section.units))
    return page_source(path, pages, (len(pages),), placement)


def open_image(path: str, file: Path) -> ArraySource:
    """A PNG or JPEG, (y, x) or (y, x, c); raises as `image_page`."""
    page = image_page(file)
    return page_source(path, [page], (), _plane(page))


def _page(file: Path) -> Page:
    return tiff_page(file) if _is_tiff(file) else image_page(file)


def _is_tiff(file: Path) -> bool:
    return file.suffix.lower() in TIFF_SUFFIXES


def _tiff_section(file: Path) -> Placement:
    check_codec(file)
    return tiff_placement(file)


def _plane(page: Page) -> Placement:
    return Placement(("y", "x", "c")[: len(page.shape)])


def image_page(file: Path) -> Page:
    """A PNG or JPEG from its header.

    Raises
    ------
    InputError : no readable image, or a PNG in colour with 16 bits a channel, which Pillow would cut to 8.
    """
    try:
        with pillow().open(file) as image:
            mode, size = _target(image), image.size[::-1]
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{file} is not a readable image: {error}") from error
    if _is_deep_colour(file):
        raise InputError(f"{file} is a PNG in colour with 16 bits a channel, which are not read: save it as TIFF, or with 8 bits")
    channels, dtype = PIXELS[mode]
    return Page(file, (*size, *channels), np.dtype(dtype), partial(_decode, file, mode))


def _target(image: Any) -> str:
    """The mode in which an image is read: bits (as 0 and 255) and a palette of greys as grey, other palettes and colour spaces as RGB."""
    if image.mode in PIXELS:
        return str(image.mode)
    if image.mode == "1":
        return "L"
    if image.mode == "P":
        palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        return "L" if (palette == palette[:, :1]).all() else "RGB"
    return "RGB"


def _is_deep_colour(file: Path) -> bool:
    """By the header of a PNG: bit depth at byte 24, colour type (2 and 6 are colour) at byte 25."""
    with file.open("rb") as handle:
        head = handle.read(26)
    return head.startswith(b"\x89PNG") and head[24] == 16 and head[25] in (2, 4, 6)


def _decode(file: Path, mode: str) -> Array:
    try:
        with pillow().open(file) as image:
            return np.asarray(image if image.mode == mode else image.convert(mode))
    except (OSError, ValueError, SyntaxError) as error:
        raise StorageError(f"cannot decode {file}: {error}") from error
