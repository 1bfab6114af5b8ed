import numpy as np
import pytest
import tifffile

from blockwise.errors import InputError, StorageError
from blockwise.geometry import Region
from blockwise.storage import open_source
from blockwise.storage.tiff import check_codec
from tests.storage.formats import write_lzw, write_tiff_pages, write_tiff_sections

ONES, NM, UM = (1.0, 1.0, 1.0), ("nm", "nm", "nm"), ("um", "um", "um")
PER_UM = 1 / 0.004


def write(path, volume, **options):
    tifffile.imwrite(path, volume, **options)
    return open_source(path)


@pytest.mark.parametrize(
    ("options", "voxel_size", "units"),
    [
        ({}, ONES, ("", "", "")),
        # 72 dpi is a setting for print, 4 nm a pixel is none
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, ONES, ("", "", "")),
        ({"resolution": (2.5e6, 1.25e6), "resolutionunit": "CENTIMETER"}, (1, 8, 4), ("", "nm", "nm")),
        (
            {"imagej": True, "resolution": (PER_UM, PER_UM), "metadata": {"axes": "ZYX", "unit": "micron", "spacing": 0.04}},
            (0.04, 0.004, 0.004),
            UM,
        ),
        ({"imagej": True, "resolution": (0.25, 0.25), "metadata": {"axes": "ZYX", "unit": "nm", "spacing": 40}}, (40, 4, 4), NM),
        ({"imagej": True, "resolution": (3, 3), "metadata": {"unit": "pixel"}}, ONES, ("", "", "")),
        (
            {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeZ": 0.04}},
            (0.04, 1, 4),
            ("um", "", "nm"),
        ),
    ],
    ids=["nothing", "inch", "centimetre", "ImageJ micron", "ImageJ nm", "ImageJ pixels", "OME"],
)
def test_voxel_sizes(tmp_path, volume, options, voxel_size, units):
    source = write(tmp_path / "a.tif", volume, **options)
    assert source.voxel_size == pytest.approx(voxel_size, rel=1e-4)
    assert source.units == units


def test_a_folder_has_the_pixel_size_of_its_images(tmp_path, volume):
    write_tiff_sections(tmp_path / "raw", volume, resolution=(2.5e6, 2.5e6), resolutionunit="CENTIMETER")
    source = open_source(tmp_path / "raw")
    assert (source.voxel_size, source.units) == ((1.0, 4.0, 4.0), ("", "nm", "nm"))


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((5, 4), {}, ("y", "x")),
        ((3, 2, 5, 4), {"imagej": True, "metadata": {"axes": "ZCYX"}}, ("z", "c", "y", "x")),
        (
            (3, 2, 5, 4),
            {"ome": True, "metadata": {"axes": "TZYX"}, "photometric": "minisblack", "compression": "zlib"},
            ("t", "z", "y", "x"),
        ),
        ((3, 5, 4, 3), {"photometric": "rgb", "compression": "zlib"}, ("z", "y", "x", "c")),
    ],
)
def test_axes_come_from_the_file(tmp_path, shape, options, axes):
    data = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    source = write(tmp_path / "a.tif", data, **options)
    assert (source.axes, source.shape) == (axes, shape)
    box = Region((0,) * len(shape), tuple(n - 1 for n in shape))
    assert np.array_equal(source.read(box), data[box.slices])
    source.close()


@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "uint32", "float64"])
def test_dtypes(tmp_path, volume, dtype, compression):
    data = volume.astype(dtype)
    source = write(tmp_path / "a.tif", data, compression=compression)
    assert source.dtype == data.dtype
    assert np.array_equal(source.read(Region((1, 1, 1), (3, 4, 5))), data[1:3, 1:4, 1:5])
    source.close()


def test_uncompressed_pixels_are_mapped(tmp_path, volume):
    assert write(tmp_path / "a.tif", volume).chunks is None
    source = write(tmp_path / "b.tif", volume, compression="zlib")
    assert source.chunks == (1, 7, 8)
    source.close()


def test_a_thumbnail_does_not_count(tmp_path, volume):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(volume)
        tiff.write(volume[0, ::2, ::2])
    assert open_source(tmp_path / "a.tif").shape == volume.shape


def test_broken_files_are_told(tmp_path, volume):
    (tmp_path / "a.tif").write_bytes(b"II*\0 and no more")
    with pytest.raises(InputError, match="not a readable TIFF"):
        open_source(tmp_path / "a.tif")
    write_tiff_pages(tmp_path / "b.tif", volume)
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        offset = tiff.pages[2].dataoffsets[0]
    with (tmp_path / "b.tif").open("r+b") as handle:
        handle.seek(offset)
        handle.write(b"\xff" * 20)
    source = open_source(tmp_path / "b.tif")
    assert np.array_equal(source.read(Region((0, 0, 0), (2, 7, 8))), volume[:2])
    with pytest.raises(StorageError, match=r"cannot decode page 2 of .*b.tif"):
        source.read(Region((2, 0, 0), (3, 7, 8)))
    source.close()


def test_a_codec_that_nothing_decodes_is_refused_at_once(tmp_path, volume):
    write_lzw(tmp_path / "a.tif", volume)
    check_codec(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        offset = tiff.pages[0].tags["Compression"].offset
    with (tmp_path / "a.tif").open("r+b") as handle:
        handle.seek(offset + 8)
        handle.write((34712).to_bytes(2, "little"))  # JPEG 2000
    with pytest.raises(InputError, match=r"compressed with JPEG2000.*install imagecodecs"):
        open_source(tmp_path / "a.tif")
