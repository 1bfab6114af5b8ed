from concurrent.futures import ThreadPoolExecutor

import numpy as np

from blockwise.geometry import Region
from blockwise.storage import Placement
from blockwise.storage.pages import DecodedPages, Page, page_source


def counted(folder, shape=(2, 2), count=4):
    """Pages full of their numbers, and the list of those that were decoded."""
    decoded = []

    def page(number):
        def decode():
            decoded.append(number)
            return np.full(shape, number)

        return Page(folder, shape, np.dtype(int), decode)

    return [page(n) for n in range(count)], decoded


def test_a_page_is_decoded_once_for_all_threads(tmp_path):
    found, decoded = counted(tmp_path)
    pages = DecodedPages(found, most=2)
    with ThreadPoolExecutor(8) as pool:
        assert [int(p[0, 0]) for p in pool.map(pages, [0, 1] * 40)] == [0, 1] * 40
    assert sorted(decoded) == [0, 1]
    for number in (2, 1, 3, 1, 2):
        pages(number)
    assert decoded[2:] == [2, 3, 2]


def test_pages_in_two_axes(tmp_path):
    pages, decoded = counted(tmp_path, (3, 5), 6)
    source = page_source("film", pages, (2, 3), Placement(("t", "z", "y", "x")))
    assert source.chunks == (1, 1, 3, 5)
    assert source.read(Region((1, 0, 1, 1), (2, 2, 3, 4))).tolist() == [[[[3] * 3] * 2, [[4] * 3] * 2]]
    assert decoded == [3, 4]


def test_a_mapped_page_gives_memory_of_its_own(tmp_path):
    data = np.arange(40, dtype=">u2").reshape(5, 8)
    (tmp_path / "a.raw").write_bytes(b"head" + data.tobytes())
    page = Page(tmp_path / "a.raw", (5, 8), data.dtype, lambda: data, offset=4)
    source = page_source("a", [page], (), Placement(("y", "x")))
    read = source.read(Region((1, 2), (3, 6)))
    assert np.array_equal(read, data[1:3, 2:6])
    assert (source.chunks, read.dtype, read.flags.writeable) == (None, np.dtype("=u2"), True)
