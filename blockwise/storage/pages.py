"""Volumes that lie in pages: the images of a folder, the pages of a TIFF. A read touches the pages that it needs and no others.

A page whose pixels lie uncompressed in the file is mapped, and only the bytes asked for are read. Any other page is decoded whole, once
for all threads that ask for it, and the pages used last are kept up to a number of bytes: neighbouring blocks along y and x find them.
"""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.errors import InputError
from blockwise.storage.placement import Placement
from blockwise.storage.source import Array, ArraySource, Cached

PAGE_CACHE_BYTES: int = 256 * 2**20
"""Decoded pages that one source keeps; the page in use is kept whatever its size."""


@dataclass(frozen=True, slots=True)
class Page:
    """One image.

    dtype : as it lies in the file, byte order included.
    decode : gives all of it, (y, x) or (y, x, c); called from many threads.
    offset : of the first pixel in the file, where they lie uncompressed and in C order; else None.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decode: Callable[[], Array]
    offset: int | None = None

    def crop(self, box: tuple[slice, ...]) -> Array:
        """A box of a mapped page, in new memory."""
        return np.array(np.memmap(self.file, self.dtype, "r", self.offset or 0, self.shape)[box])


class DecodedPages:
    """The pages decoded last, by number."""

    def __init__(self, pages: Sequence[Page], most: int) -> None:
        self._pages, self._most = pages, most
        self._kept: dict[int, Cached] = {}
        self._lock = threading.Lock()

    def __call__(self, number: int) -> Array:
        with self._lock:
            page = self._kept.pop(number, None) or Cached(self._pages[number].decode)
            self._kept[number] = page
            while len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
        return page()


def pillow() -> Any:
    """Pillow, without its refusal of images above 179 million pixels: sections of EM volumes are larger."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    return Image


def check_alike(path: str, pages: Sequence[Page]) -> None:
    """Refuse pages of different shapes or dtypes.

    Raises
    ------
    InputError : names the first page that differs from the first of all, with both shapes and dtypes.
    """
    first = pages[0]
    for page in pages:
        if (page.shape, page.dtype.newbyteorder("=")) != (first.shape, first.dtype.newbyteorder("=")):
            raise InputError(
                f"{path}: {page.file.name} is {_words(page)}, but {first.file.name} is {_words(first)}: the images of a stack must be "
                f"of one shape and dtype"
            )


def _words(page: Page) -> str:
    return f"{' x '.join(map(str, page.shape))} {page.dtype.newbyteorder('=')}"


def page_source(
    path: str,
    pages: Sequence[Page],
    leading: tuple[int, ...],
    placement: Placement,
    *,
    attributes: Mapping[str, Any] | None = None,
    close: Callable[[], None] = lambda: None,
) -> ArraySource:
    """Pages of one shape as one array.

    Parameters
    ----------
    leading : how the pages are arranged, in C order: (z,), (t, z), or () for one page.
    placement : of the whole array.
    """
    shape = (*leading, *pages[0].shape)
    page_bytes = prod(pages[0].shape) * pages[0].dtype.itemsize
    decoded = DecodedPages(pages, max(1, PAGE_CACHE_BYTES // max(1, page_bytes)))
    dtype = pages[0].dtype.newbyteorder("=")
    fetch = partial(_fetch, pages, decoded, leading, dtype)
    chunks = (*(1 for _ in leading), *pages[0].shape) if pages[0].offset is None else None
    return ArraySource(path, None, shape, dtype, placement, fetch, chunks, attributes or {}, close)


def _fetch(pages: Sequence[Page], decoded: DecodedPages, leading: tuple[int, ...], dtype: np.dtype[Any], box: tuple[slice, ...]) -> Array:
    out = np.empty([b.stop - b.start for b in box], dtype)
    above, inside = box[: len(leading)], box[len(leading) :]
    for place in itertools.product(*(range(b.start, b.stop) for b in above)):
        number = int(np.ravel_multi_index(place, leading)) if leading else 0
        page = pages[number]
        to = tuple(p - b.start for p, b in zip(place, above, strict=True))
        out[to] = decoded(number)[inside] if page.offset is None else page.crop(inside)
    return out
