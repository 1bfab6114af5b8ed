"""Real files of every format, written by the library that owns it."""

import h5py
import nibabel
import nrrd
import numpy as np
import scipy.io
import tensorstore as ts
import tifffile
import zarr
from PIL import Image

MATLAB_HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan 01 00:00:00 2024 HDF5 schema 1.00 ."
CLASSES = {"f8": "double", "f4": "single", "u1": "uint8", "u2": "uint16", "i2": "int16", "i4": "int32"}


def write_npy(path, data):
    np.save(path, data)


def write_npy_fortran(path, data):
    np.save(path, np.asfortranarray(data.astype(data.dtype.newbyteorder(">"))))


def write_npz(path, data):
    np.savez(path, raw=data)


def write_hdf5(path, data):
    with h5py.File(path, "w") as f:
        f.create_dataset("volumes/raw", data=data, chunks=tuple(min(3, n) for n in data.shape))


def write_mat5(path, data):
    scipy.io.savemat(path, {"raw": data, "note": "text"})


def write_mat73(path, data, name="raw"):
    """As MATLAB lays it out: a text header in a 512-byte user block, column-major data, so the HDF5 axes are reversed."""
    with h5py.File(path, "w", userblock_size=512) as f:
        dataset = f.create_dataset(name, data=data.T)
        dataset.attrs["MATLAB_class"] = np.bytes_(CLASSES[data.dtype.str[1:]])
        text = f.create_dataset("note", data=np.array([[116], [120]], np.uint16))
        text.attrs["MATLAB_class"] = np.bytes_("char")
        f.create_dataset("#refs#/a", data=np.zeros((2, 1)))
    with open(path, "r+b") as f:
        f.write(MATLAB_HEADER.ljust(116) + bytes(8) + b"\x00\x02IM")


def write_zarr2(path, data):
    zarr.create_group(path, zarr_format=2).create_array("raw", data=data, chunks=(2,) * data.ndim)


def write_zarr2_array(path, data):
    array = zarr.create_array(path, shape=data.shape, chunks=(2,) * data.ndim, dtype=data.dtype.newbyteorder(">"), zarr_format=2, order="F")
    array[...] = data


def write_zarr3(path, data):
    zarr.create_group(path).create_array("volumes/raw", data=data, chunks=(2,) * data.ndim)


def write_zarr3_sharded(path, data):
    zarr.create_array(path, data=data, chunks=(2,) * data.ndim, shards=(4,) * data.ndim)


def write_n5(path, data, **extra):
    """tensorstore's axes are N5's: x first."""
    metadata = {
        "dimensions": list(data.shape[::-1]),
        "blockSize": [4] * data.ndim,
        "dataType": str(data.dtype),
        "compression": {"type": "gzip"},
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/volumes/raw/"}, "metadata": metadata | extra}
    ts.open(spec, create=True).result().write(data.T).result()


def write_precomputed(path, data, resolution=(4, 4, 40), origin=(0, 0, 0)):
    channels = data if data.ndim == 4 else data[None]
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "multiscale_metadata": {"type": "image", "data_type": str(data.dtype), "num_channels": channels.shape[0]},
        "scale_metadata": {
            "size": list(channels.shape[:0:-1]),
            "resolution": list(resolution),
            "voxel_offset": list(origin),
            "chunk_size": [4, 4, 4],
            "encoding": "raw",
        },
    }
    ts.open(spec, create=True).result().write(channels.T).result()


def write_sections(path, data, suffix="png"):
    """One image per section; sorted as text, section 10 would come before section 2."""
    path.mkdir()
    (path / "notes.txt").write_text("not an image")
    for z, section in enumerate(data):
        Image.fromarray(section).save(path / f"s{3 * z}.{suffix}")


def write_tiff_sections(path, data, **options):
    path.mkdir()
    for z, section in enumerate(data):
        tifffile.imwrite(path / f"s{3 * z}.tif", section, **options)


def write_tiff(path, data, **options):
    tifffile.imwrite(path, data, **options)


def write_tiff_pages(path, data):
    """As a loop over sections writes them: images that the file does not join."""
    with tifffile.TiffWriter(path) as tiff:
        for section in data:
            tiff.write(section, compression="zlib", contiguous=False)


def write_lzw(path, data):
    first, *more = map(Image.fromarray, data)
    first.save(path, save_all=True, append_images=more, compression="tiff_lzw")


FORMATS = {
    "npy": (write_npy, "a.npy"),
    "npy, column-major, big-endian": (write_npy_fortran, "a.npy"),
    "npz": (write_npz, "a.npz"),
    "hdf5": (write_hdf5, "a.h5"),
    "mat v5": (write_mat5, "a.mat"),
    "mat v7.3": (write_mat73, "a.mat"),
    "zarr v2 group": (write_zarr2, "a.zarr"),
    "zarr v2 array, column-major, big-endian": (write_zarr2_array, "a.zarr"),
    "zarr v3 group": (write_zarr3, "a.zarr"),
    "zarr v3 sharded array": (write_zarr3_sharded, "a.zarr"),
    "n5": (write_n5, "a.n5"),
    "precomputed": (write_precomputed, "layer"),
    "NRRD": (lambda p, d: nrrd.write(str(p), d.T), "a.nrrd"),
    "NRRD, raw": (lambda p, d: nrrd.write(str(p), d.T, header={"encoding": "raw"}), "a.nrrd"),
    "NIfTI": (lambda p, d: nibabel.save(nibabel.Nifti1Image(d.T, np.eye(4)), p), "a.nii"),
    "NIfTI, compressed": (lambda p, d: nibabel.save(nibabel.Nifti2Image(d.T, np.eye(4)), p), "a.nii.gz"),
    "folder of PNGs": (write_sections, "sections"),
    "folder of TIFFs": (write_tiff_sections, "sections"),
    "folder of TIFFs, compressed": (lambda p, d: write_tiff_sections(p, d, compression="zlib"), "sections"),
    "TIFF": (write_tiff, "a.tif"),
    "TIFF, compressed": (lambda p, d: write_tiff(p, d, compression="zlib", tile=(16, 16)), "a.tif"),
    "TIFF of separate images": (write_tiff_pages, "a.tif"),
    "TIFF of ImageJ": (lambda p, d: write_tiff(p, d, imagej=True, metadata={"axes": "ZYX"}), "a.tif"),
    "TIFF, LZW": (write_lzw, "a.tif"),
    "OME-TIFF": (lambda p, d: write_tiff(p, d, ome=True, metadata={"axes": "ZYX"}), "a.ome.tif"),
    "BigTIFF, big-endian": (lambda p, d: write_tiff(p, d, bigtiff=True, byteorder=">"), "a.tif"),
}
