"""Predictions kept as arrays: the mask and the vectors, read with the scales that are stored with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blockwise.errors import InputError
from blockwise.geometry import Domain, Region
from blockwise.storage import Source, identity, open_source
from tasks.synful.extraction import Predictions
from tasks.synful.options import StoreOptions
from tasks.synful.placed import placement_nm, told_nm
from tasks.synful.sizes import Triple

USUAL_CORE = (64, 512, 512)


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """Where predictions lie.

    Parameters
    ----------
    path, mask, vectors : container and names of the arrays.
    mask_scale, vectors_scale : a stored value is a probability, or nm, times its scale.
    """

    path: str
    mask: str
    vectors: str
    mask_scale: float
    vectors_scale: float
    domain: Domain

    @classmethod
    def find(
        cls, path: str, store: StoreOptions, voxel_size: Sequence[float] | None = None, offset: Sequence[float] | None = None
    ) -> "StoredPredictions":
        """Those at a path, checked against each other.

        Raises
        ------
        MissingError : no such arrays.
        InputError : shapes, voxel sizes or offsets that do not fit, integers without the attribute `scale`, or no voxel size.
        """
        mask, vectors = open_source(path, store.mask), open_source(path, store.vectors)
        if len(mask.shape) != 3 or vectors.shape != (3, *mask.shape):
            raise InputError(
                f"{path}: {store.mask} has the shape {mask.shape}, {store.vectors} {vectors.shape}; wanted are (z, y, x) and (3, z, y, x) "
                "of one volume"
            )
        size, begin = placement_nm(mask, "the predictions' mask", voxel_size=voxel_size, fix="set [input] voxel_size = [z, y, x] in nm")
        domain = Domain("volume", ("z", "y", "x"), mask.shape, size, tuple(offset or begin), ("nm",) * 3)
        found = cls(path, store.mask, store.vectors, scale_of(mask, 255), scale_of(vectors, 0.25), domain)
        _require_one_place(mask, vectors, store, told=(voxel_size is not None, offset is not None))
        return found

    @classmethod
    def kept(cls, path: str, store: StoreOptions, domain: Domain) -> "StoredPredictions":
        """Those that this run keeps."""
        return cls(path, store.mask, store.vectors, store.mask_scale, store.vectors_scale, domain)

    def open(self) -> Callable[[Region], Predictions]:
        """A function of a box of voxels, thread safe."""
        mask, vectors = open_source(self.path, self.mask), open_source(self.path, self.vectors)

        def read(region: Region) -> Predictions:
            channels = Region((0, *region.begin), (3, *region.end))
            return Predictions(mask.read(region), vectors.read(channels), region.begin, self.mask_scale, self.vectors_scale)

        return read

    def fingerprint(self) -> Mapping[str, object]:
        names = {"input.mask": self.mask, "input.vectors": self.vectors}
        prints: dict[str, object] = {k: identity(self.path, v) for k, v in names.items()}
        return prints | {"mask_scale": self.mask_scale, "vectors_scale": self.vectors_scale}

    def usual_core(self) -> Triple:
        """A block for extraction where none is given."""
        z, y, x = (min(n, e) for n, e in zip(USUAL_CORE, self.domain.shape, strict=True))
        return z, y, x


def _require_one_place(mask: Source, vectors: Source, names: StoreOptions, *, told: tuple[bool, bool]) -> None:
    """Refuse vectors that lie elsewhere than the mask, or have other voxels; what a file does not say cannot differ.

    told : whether the configuration gives the voxel size, and the offset, so that what the files say of it does not matter.

    Raises
    ------
    InputError
    """
    (size, offset), (other_size, other_offset) = told_nm(mask), told_nm(vectors)
    if size is None or other_size is None:
        return
    pairs = (("voxels of", size, other_size), ("the offset", offset, other_offset))
    for (what, one, other), given in zip(pairs, told, strict=True):
        if not given and not np.allclose(one, other, rtol=1e-6, atol=1e-6):
            raise InputError(
                f"{mask.path}: {names.mask} has {what} {list(one)} nm, {names.vectors} {list(other)} nm; both are wanted of one volume: "
                "correct the attributes of the wrong one, or set [input] voxel_size and offset, z y x in nm"
            )


def scale_of(source: Source, usual: float) -> float:
    """The scale stored with predictions; 1 for floats that state none.

    Raises
    ------
    InputError : integers without it.
    """
    if "scale" in source.attributes:
        return float(source.attributes["scale"])
    if np.dtype(source.dtype).kind == "f":
        return 1.0
    raise InputError(
        f"{source.path}, {source.variable}: {source.dtype} predictions without the attribute `scale`, so a value of "
        f"{np.iinfo(source.dtype).max} means nothing; the original's factor is usually {usual}: set the attribute"
    )
