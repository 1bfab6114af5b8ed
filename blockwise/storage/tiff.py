"""TIFF files: pages, the axes and voxel sizes they name, uncompressed pixels mapped.

Axes and voxel sizes come from OME-XML, from ImageJ's description, else from the tags. An unnamed sequence of pages is z. Samples of a
colour are the last axis c. Resolution tags in dots per inch or centimetre count where they are finer than any printer: cameras and image
editors write 72 or 300 dpi into every file.
"""

import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.errors import InputError, StorageError
from blockwise.storage.pages import Page, check_alike, page_source, pillow
from blockwise.storage.placement import Placement, default_axes, short_unit
from blockwise.storage.source import Array, ArraySource

PRINT_NM: float = 20_000.0
"""A pixel of 1,270 dpi in nm: coarser resolution tags are settings for print."""

TAG_UNITS_NM = {2: 25.4e6, 3: 1e7}
"""Value of the tag ResolutionUnit -> nm: inch, centimetre."""

NAMES = {"Q": "z", "I": "z", "S": "c"}
"""tifffile's letters for an unnamed axis, a sequence of pages and samples; other axes go by their own letter."""


@contextmanager
def reading(file: Path) -> Iterator[Any]:
    """An open TIFF; what is wrong with it becomes an InputError."""
    import tifffile

    try:
        with tifffile.TiffFile(file) as tiff:
            yield tiff
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, struct.error) as error:
        if isinstance(error, InputError | StorageError):
            raise
        raise InputError(f"{file} is not a readable TIFF: {error}") from error


def tiff_page(file: Path) -> Page:
    """A TIFF of one image, (y, x) or (y, x, c), from its header.

    Raises
    ------
    InputError : no readable TIFF, or one of several pages.
    """
    with reading(file) as tiff:
        if len(tiff.pages) > 1:
            raise InputError(f"{file} has {len(tiff.pages)} pages: a stack is made of images of one page, or of one file of many")
        return _page(file, tiff.pages[0], tiff.byteorder, partial(_decode_file, file))


def tiff_placement(file: Path) -> Placement:
    """Axes and voxel sizes of a TIFF of one image."""
    with reading(file) as tiff:
        page = tiff.pages[0]
        return _placement(tiff, "YX" if len(_page_shape(page)) == 2 else "YXS")


def open_tiff(path: str, file: Path) -> ArraySource:
    """A TIFF file of any number of pages.

    Several images of one shape that the file does not join are sections; of several shapes the first is opened.

    Raises
    ------
    InputError : no readable TIFF, pages that differ, or a compression that neither tifffile nor Pillow decodes.
    """
    check_codec(file)
    with reading(file) as tiff:
        series = _alike(tiff)
        first = series[0]
        if first.dataoffset is not None and len(series) == 1 and "S" not in first.axes[:-1]:
            dtype = np.dtype(first.dtype).newbyteorder(tiff.byteorder)
            whole = Page(file, first.shape, dtype, _nothing_to_decode, first.dataoffset)
            return page_source(path, [whole], (), _placement(tiff, first.axes), attributes=_attributes(tiff))
    return _open_pages(path, file)


def _alike(tiff: Any) -> list[Any]:
    """The images of a file that are of the first's shape and dtype."""
    first = tiff.series[0]
    return [s for s in tiff.series if (s.shape, s.dtype) == (first.shape, first.dtype)]


def _open_pages(path: str, file: Path) -> ArraySource:
    """Page by page; the file stays open, its reads take turns."""
    import tifffile

    tiff, lock = tifffile.TiffFile(file), threading.Lock()
    try:
        series = _alike(tiff)
        pages = [_page(file, p.aspage(), tiff.byteorder, partial(_decode_page, file, p, lock)) for s in series for p in s.pages]
        check_alike(path, pages)
        axes, leading = _arrangement(series, len(pages[0].shape))
        if prod(leading) != len(pages):
            raise InputError(f"{path}: axes {axes} with {leading} above the pages need {prod(leading)} pages, the file has {len(pages)}")
        return page_source(path, pages, leading, _placement(tiff, axes), attributes=_attributes(tiff), close=tiff.close)
    except BaseException:
        tiff.close()
        raise


def _arrangement(series: Sequence[Any], page_rank: int) -> tuple[str, tuple[int, ...]]:
    """Axes, samples last, and how many pages lie along those that no page has."""
    first = series[0]
    axes = first.axes.replace("S", "") + "S" * ("S" in first.axes)
    lengths = dict(zip(first.axes, first.shape, strict=True))
    leading = tuple(lengths[a] for a in axes[: len(axes) - page_rank])
    return (axes, leading) if len(series) == 1 else (f"Q{axes}", (len(series), *leading))


def _page(file: Path, page: Any, byteorder: str, decode: Callable[[], Array]) -> Page:
    if page.dtype is None:
        raise InputError(f"{file} holds pixels of {page.bitspersample} bits, which are no numbers of a known type")
    if not _decodable(page):
        decode = partial(_decode_with_pillow, file, page.index)
    mapped = page.is_memmappable and not page.axes.startswith("S")
    return Page(file, _page_shape(page), page.dtype.newbyteorder(byteorder), decode, page.dataoffsets[0] if mapped else None)


def check_codec(file: Path) -> None:
    """Refuse a compression that neither tifffile nor Pillow decodes, before a run finds out.

    Raises
    ------
    InputError : names the compression.
    """
    with reading(file) as tiff:
        page = tiff.pages[0]
        if _decodable(page):
            return
        expected, codec = (_page_shape(page), page.dtype), page.compression.name
    try:
        data = _decode_with_pillow(file, 0)
    except StorageError as error:
        raise InputError(f"{file} is compressed with {codec}, which cannot be decoded here: {error}; install imagecodecs") from error
    if (data.shape, data.dtype.newbyteorder("=")) != (expected[0], expected[1].newbyteorder("=")):
        raise InputError(f"{file} is compressed with {codec} and decodes to {data.shape} {data.dtype}, not {expected}: install imagecodecs")


def _page_shape(page: Any) -> tuple[int, ...]:
    """(y, x) or (y, x, c), also where the file stores one plane per colour."""
    shape = tuple(page.shape)
    return (*shape[1:], shape[0]) if page.axes.startswith("S") else shape


def _decodable(page: Any) -> bool:
    """Whether tifffile has the codec; without the package imagecodecs it lacks LZW and JPEG."""
    import tifffile

    try:
        return tifffile.TIFF.DECOMPRESSORS[page.compression] is not None
    except KeyError:
        return False


def _nothing_to_decode() -> Array:
    raise StorageError("pixels that are mapped were to be decoded")


def _decode_file(file: Path) -> Array:
    with reading(file) as tiff:
        return _decode_page(file, tiff.pages[0], threading.Lock())


def _decode_page(file: Path, page: Any, lock: threading.Lock) -> Array:
    import tifffile

    try:
        with lock:
            data = page.asarray()
    except (tifffile.TiffFileError, OSError, ValueError, RuntimeError, zlib.error, struct.error, IndexError) as error:
        raise StorageError(f"cannot decode page {page.index} of {file}: {error}") from error
    return np.asarray(np.moveaxis(data, 0, -1) if page.axes.startswith("S") else data)


def _decode_with_pillow(file: Path, number: int) -> Array:
    try:
        with pillow().open(file) as image:
            image.seek(number)
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise StorageError(f"cannot decode page {number} of {file}: {error}") from error


def _attributes(tiff: Any) -> Mapping[str, Any]:
    return {k: v for k, v in (tiff.imagej_metadata or {}).items() if isinstance(v, str | int | float | bool)}


def _placement(tiff: Any, axes: str) -> Placement:
    names = tuple(NAMES.get(a, a.lower()) for a in axes)
    if len(set(names)) < len(names):
        names = default_axes(len(names))
    sizes = _ome_sizes(tiff) or _imagej_sizes(tiff) or _tag_sizes(tiff)
    found = [sizes.get(a, (1.0, "")) for a in names]
    return Placement(names, tuple(s for s, _ in found), (), tuple(u for _, u in found))


def _ome_sizes(tiff: Any) -> dict[str, tuple[float, str]]:
    """Axis -> (voxel size, unit) of the first image in OME-XML; the standard's unit is the micrometre."""
    from xml.etree import ElementTree

    if not tiff.is_ome or not tiff.ome_metadata:
        return {}
    pixels = ElementTree.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
    if pixels is None:
        return {}
    named = {a: (pixels.get(f"PhysicalSize{a.upper()}"), pixels.get(f"PhysicalSize{a.upper()}Unit", "um")) for a in "zyx"}
    return {a: (float(size), short_unit(unit)) for a, (size, unit) in named.items() if size}


def _imagej_sizes(tiff: Any) -> dict[str, tuple[float, str]]:
    """Pixels per unit from the tags, spacing of the sections and the unit from ImageJ's description."""
    about = tiff.imagej_metadata or {}
    unit = short_unit(str(about.get("unit", "")))
    if unit in ("", "pixel", "inch"):
        return {}
    sizes = {a: (1 / n, unit) for a, n in _tag_densities(tiff).items() if n}
    return sizes | ({"z": (float(about["spacing"]), unit)} if about.get("spacing") else {})


def _tag_sizes(tiff: Any) -> dict[str, tuple[float, str]]:
    unit = tiff.pages[0].tags.get("ResolutionUnit")
    scale_nm = TAG_UNITS_NM.get(int(unit.value) if unit else 2)
    if scale_nm is None:
        return {}
    sizes = {a: scale_nm / n for a, n in _tag_densities(tiff).items() if n}
    return {a: (nm, "nm") for a, nm in sizes.items() if nm < PRINT_NM}


def _tag_densities(tiff: Any) -> dict[str, float]:
    tags = {a: tiff.pages[0].tags.get(f"{a.upper()}Resolution") for a in "yx"}
    return {a: tag.value[0] / tag.value[1] for a, tag in tags.items() if tag and tag.value[1]}
