import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from blockwise.errors import InputError, MissingError, StorageError
from blockwise.geometry import Region
from blockwise.storage import identity, open_source
from blockwise.storage.images import natural_key
from tests.shared import shared
from tests.storage.formats import write_sections, write_tiff_sections


def whole(source):
    return source.read(Region((0,) * len(source.shape), source.shape))


def bytes_of(volume):
    return volume.astype(np.uint8)


def test_natural_order():
    names = ["s10.png", "s9.png", "s09.png", "a100b2.png", "a100b10.png", "b.png"]
    assert sorted(names, key=natural_key) == ["a100b2.png", "a100b10.png", "b.png", "s09.png", "s9.png", "s10.png"]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_glob_of_images(tmp_path, volume, suffix):
    write_sections(tmp_path / "raw", volume, suffix)
    source = open_source(tmp_path / "raw" / f"s*[05].{suffix}")  # sections 0 and 5 of s0, s3, ... s15
    assert (source.axes, source.shape) == (("z", "y", "x"), (2, 7, 8))
    assert np.array_equal(whole(source), volume[[0, 5]])
    assert identity(tmp_path / "raw" / f"*.{suffix}") == identity(tmp_path / "raw") != identity(tmp_path / "raw" / f"s1*.{suffix}")


def test_a_glob_that_names_nothing(tmp_path):
    with pytest.raises(MissingError, match="names no image"):
        open_source(tmp_path / "*.png")


@pytest.mark.parametrize(("name", "stack"), [("jpg", True), ("png", True), ("tif", True), ("png", False), ("tif", False)])
def test_colour_is_the_last_axis(tmp_path, name, stack):
    colour = np.random.default_rng(0).integers(0, 255, (3, 16, 8, 3), np.uint8)
    colour[:] = 90 if name == "jpg" else colour
    write_sections(tmp_path / "rgb", colour, name)
    source = open_source(tmp_path / "rgb" if stack else tmp_path / "rgb" / f"s3.{name}")
    assert source.axes == (("z", "y", "x", "c") if stack else ("y", "x", "c"))
    assert np.array_equal(whole(source), colour if stack else colour[1])


def test_colours_in_planes_become_the_last_axis(tmp_path):
    planes = np.arange(5 * 3 * 4 * 6, dtype=np.uint8).reshape(5, 3, 4, 6)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    source = open_source(tmp_path / "a.tif")
    assert source.axes == ("z", "y", "x", "c")
    assert np.array_equal(whole(source), np.moveaxis(planes, 1, -1))


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), np.array([[0, 255]], np.uint8)),
        (Image.fromarray(np.array([[3, 9]], np.uint8)).convert("P"), np.array([[3, 9]], np.uint8)),
        (Image.new("P", (2, 1)), np.zeros((1, 2), np.uint8)),
        (Image.new("RGB", (2, 1), (1, 2, 3)).quantize(4), np.array([[[1, 2, 3], [1, 2, 3]]], np.uint8)),
        (Image.fromarray(np.array([[1, 60000]], np.uint16)), np.array([[1, 60000]], np.uint16)),
    ],
    ids=["bits", "palette of greys", "empty palette", "palette of colours", "16 bits"],
)
def test_kinds_of_png(tmp_path, picture, expected):
    picture.save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    assert source.dtype == expected.dtype
    assert np.array_equal(whole(source), expected)


def test_the_content_says_what_an_image_is(tmp_path):
    Image.fromarray(np.eye(3, dtype=np.uint8)).save(tmp_path / "a.tif", format="PNG")
    assert np.array_equal(whole(open_source(tmp_path / "a.tif")), np.eye(3))


def png_of_16_bit_colour(path):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(13))) + chunk(b"IEND", b""))


def test_colour_that_would_lose_bits_is_refused(tmp_path):
    png_of_16_bit_colour(tmp_path / "a.png")
    with pytest.raises(InputError, match="16 bits a channel"):
        open_source(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.zeros((7, 9), np.uint8), r"s2.png is 7 x 9 uint8, but s0.png is 7 x 8 uint8"),
        (np.zeros((7, 8), np.uint16), r"s2.png is 7 x 8 uint16, but s0.png is 7 x 8 uint8"),
        (np.zeros((7, 8, 3), np.uint8), r"s2.png is 7 x 8 x 3 uint8"),
    ],
)
def test_a_section_unlike_the_first_is_named(tmp_path, volume, other, message):
    write_sections(tmp_path / "raw", bytes_of(volume))
    Image.fromarray(other).save(tmp_path / "raw" / "s2.png")
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / "raw")


def test_what_is_no_stack_is_refused(tmp_path, volume):
    write_sections(tmp_path / "raw", bytes_of(volume))
    (tmp_path / "raw" / "s99.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    with pytest.raises(InputError, match=r"s99.png is not a readable image"):
        open_source(tmp_path / "raw")
    tifffile.imwrite(tmp_path / "raw" / "a.tif", volume)
    with pytest.raises(InputError, match=r"images of 2 formats \(.png, .tif\): name one as raw/\*.png"):
        open_source(tmp_path / "raw")
    tifffile.imwrite(tmp_path / "raw" / "b.tif", volume)
    with pytest.raises(InputError, match="6 pages: a stack is made of images of one page"):
        open_source(tmp_path / "raw" / "*.tif")


def test_a_folder_with_one_image_is_that_image(tmp_path, volume):
    write_tiff_sections(tmp_path / "raw", volume[:1])
    assert open_source(tmp_path / "raw").shape == (7, 8)


def test_only_the_pages_of_the_region_are_opened(tmp_path, volume):
    write_sections(tmp_path / "raw", volume)
    source = open_source(tmp_path / "raw")
    for z in (0, 1, 4, 5):
        (tmp_path / "raw" / f"s{3 * z}.png").unlink()
    assert np.array_equal(source.read(Region((2, 0, 0), (4, 7, 8))), volume[2:4])
    with pytest.raises(StorageError, match=r"s12\.png"):
        source.read(Region((4, 0, 0), (5, 7, 8)))


def test_identity_of_a_stack_covers_names_and_order(tmp_path, volume):
    write_sections(tmp_path / "raw", volume)
    before = identity(tmp_path / "raw")
    (tmp_path / "raw" / "notes.txt").write_text("changed")
    assert identity(tmp_path / "raw") == before
    (tmp_path / "raw" / "s3.png").rename(tmp_path / "raw" / "s99.png")
    assert identity(tmp_path / "raw") != before


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_reading_leaves_no_file_open(tmp_path, volume):
    write_tiff_sections(tmp_path / "raw", volume)
    source = open_source(tmp_path / "raw")
    before = len(os.listdir("/proc/self/fd"))
    whole(source)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("name", "shape", "mean", "dtype"),
    [
        ("vnc_sstem/raw", (20, 1024, 1024), 128.68, "uint8"),
        ("vnc_sstem/synapses", (20, 1024, 1024), 0.6724, "uint8"),
        ("fib25_medulla/grayscale_maps", (250, 250, 250), 121.69, "uint8"),
    ],
)
def test_real_stacks(name, shape, mean, dtype):
    source = open_source(shared(f"data/em/{name}"))
    assert (source.shape, source.dtype, source.axes) == (shape, np.dtype(dtype), ("z", "y", "x"))
    assert source.read(Region((0, 0, 0), (1, *shape[1:]))).mean() == pytest.approx(mean, rel=1e-3)
