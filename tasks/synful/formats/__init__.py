"""Partners in other formats: what a run exports, and what is read instead of a run's own data set.

EXPORTS        name -> how a finished data set is written in that format
read_any       a table of partners from a file of any of them
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockwise.errors import ConfigError, InputError, MissingError

if TYPE_CHECKING:
    import pyarrow as pa

Lengths = tuple[float, float, float]
HDF5, SQLITE, PARQUET = b"\x89HDF\r\n\x1a\n", b"SQLite format 3\0", b"PAR1"
"""What files of these formats begin with."""


@dataclass(frozen=True, slots=True)
class ExportContext:
    """What writers need to know beside the rows.

    Parameters
    ----------
    voxel_size, offset, extent : nm, z y x, of the volume; where it begins, and its sides.
    block : nm, sides of the blocks of "npz".
    csv_units : "nm" or "voxel".  cave_resolution : nm; None: the voxel size.
    mongodb : url without credentials.  collection : its name before `.synapses`.
    """

    voxel_size: Lengths
    offset: Lengths
    extent: Lengths
    block: Lengths
    csv_units: str = "nm"
    cave_resolution: Lengths | None = None
    mongodb: str | None = None
    collection: str = "partners"

    @property
    def region_nm(self) -> tuple[Lengths, Lengths]:
        """Begin and end of the volume, nm, z y x."""
        z, y, x = (o + e for o, e in zip(self.offset, self.extent, strict=True))
        return self.offset, (z, y, x)


Writer = Callable[[str | Path, Path, ExportContext], int]
"""(data set, target, context) -> rows written. The target appears whole."""


def _csv(partners: str | Path, target: Path, context: ExportContext) -> int:
    from tasks.synful.formats.csv_files import write_csv

    return write_csv(partners, target, units=context.csv_units, voxel_size=context.voxel_size, offset=context.offset)


def _sqlite(partners: str | Path, target: Path, context: ExportContext) -> int:
    from tasks.synful.formats.sqlite import write_sqlite

    return write_sqlite(partners, target)


def _cremi(partners: str | Path, target: Path, context: ExportContext) -> int:
    from tasks.synful.formats.cremi import write_cremi

    return write_cremi(partners, target, offset=context.offset)


def _npz(partners: str | Path, target: Path, context: ExportContext) -> int:
    from tasks.synful.formats.npz_blocks import write_npz

    return write_npz(partners, target, context.block, region_nm=context.region_nm)


def _neuroglancer(partners: str | Path, target: Path, context: ExportContext) -> int:
    from tasks.synful.formats.annotations import write_annotations

    return write_annotations(partners, target)


def _cave(partners: str | Path, target: Path, context: ExportContext) -> int:
    from tasks.synful.formats.cave import write_cave

    return write_cave(partners, target, context.cave_resolution or context.voxel_size)


def _parquet(partners: str | Path, target: Path, context: ExportContext) -> int:
    from tasks.synful.formats.parquet import write_parquet

    return write_parquet(partners, target)


def _mongodb(partners: str | Path, target: Path, context: ExportContext) -> int:
    from tasks.synful.formats.mongodb import write_mongodb

    if context.mongodb is None:
        raise ConfigError('the export mongodb needs [options.export] mongodb = "mongodb://HOST:PORT/DATABASE"')
    return write_mongodb(partners, context.mongodb, context.collection)


@dataclass(frozen=True, slots=True)
class Export:
    """A format: the ending of its file or folder ("" where it writes neither), and its writer."""

    ending: str
    write: Writer


EXPORTS: Mapping[str, Export] = {
    "csv": Export(".csv", _csv),
    "sqlite": Export(".db", _sqlite),
    "cremi": Export(".hdf", _cremi),
    "npz": Export(".npz", _npz),
    "neuroglancer": Export(".annotations", _neuroglancer),
    "cave": Export(".cave.csv", _cave),
    "parquet": Export(".parquet", _parquet),
    "mongodb": Export("", _mongodb),
}
"""By the names that `exports` of a configuration uses. "npz" and "neuroglancer" write folders."""


def read_any(location: str | Path, *, resolution: Sequence[float] | None = None, **how: Any) -> "pa.Table":
    """Partners of whatever holds them, told by its content: a data set of a run, a file of any of `EXPORTS`, or a folder of npz.

    Parameters
    ----------
    location : a path, or mongodb://HOST:PORT/DATABASE/COLLECTION.
    resolution : nm, z y x, of CAVE's voxels.
    how : further arguments of the format's own reader, e.g. `names` and `voxel_size` for CSV, `segments` for CREMI.

    Raises
    ------
    MissingError : nothing there.  InputError : it holds no partners.
    """
    if str(location).startswith(("mongodb://", "mongodb+srv://")):
        from tasks.synful.formats.mongodb import read_mongodb

        url, _, name = str(location).rpartition("/")
        return read_mongodb(url, name.removesuffix(".synapses"), **how)
    place = Path(location)
    if not place.exists():
        raise MissingError(f"no file or folder {place}")
    return _of_folder(place, how) if place.is_dir() else _of_file(place, resolution, how)


def _of_folder(place: Path, how: Mapping[str, Any]) -> "pa.Table":
    if any(f.suffix == ".parquet" for f in place.iterdir()):
        from tasks.synful.cells import read_partners

        return read_partners(place, **how)
    from tasks.synful.formats.npz_blocks import read_npz

    return read_npz(place, **how)


def _of_file(place: Path, resolution: Sequence[float] | None, how: Mapping[str, Any]) -> "pa.Table":
    from tasks.synful.formats import cave, cremi, csv_files, parquet, sqlite

    with place.open("rb") as file:
        begin = file.read(16)
    readers: dict[bytes, Callable[..., pa.Table]] = {
        HDF5: cremi.read_cremi,
        SQLITE: sqlite.read_sqlite,
        PARQUET: parquet.read_foreign_parquet,
    }
    for magic, read in readers.items():
        if begin.startswith(magic):
            return read(place, **how)
    if cave.POINTS[0] not in csv_files.header(place):
        return csv_files.read_csv(place, **how)
    if resolution is None:
        raise InputError(f"{place} has CAVE's columns, in voxels: give its resolution, nm, z y x")
    return cave.read_cave(place, resolution, **how)
