"""Partners as one Parquet file, and the reading of Parquet files that others wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.synful.cells import ROW_GROUP, read_parquet
from tasks.synful.formats.stream import Box, Partners, as_partners, batches, dataset, in_region
from tasks.synful.formats.whole import whole_file


def write_parquet(partners: Partners, target: str | Path) -> int:
    """Write all rows, with all columns, into one file.

    Parameters
    ----------
    partners : a table, or a data set `<output>/<name>.parquet`.

    Returns
    -------
    How many rows were written.

    Raises
    ------
    MissingError, InputError : no partners there.  StorageError : it cannot be written.
    """
    rows = 0
    with whole_file(target) as file, pq.ParquetWriter(file, dataset(partners).schema, compression="zstd") as writer:
        for batch in batches(partners, rows=ROW_GROUP):
            writer.write_table(batch, row_group_size=ROW_GROUP)
            rows += batch.num_rows
    return rows


def read_foreign_parquet(
    path: str | Path,
    *,
    names: Mapping[str, str] | None = None,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    offset: Sequence[float] = (0.0, 0.0, 0.0),
    region_nm: Box | None = None,
) -> pa.Table:
    """Partners of a Parquet file; see `stream.as_partners` for columns of other names, and voxels.

    Raises
    ------
    MissingError : no such file.  InputError : a column is missing, or holds no numbers.  StorageError : it cannot be read.
    """
    rows = as_partners(read_parquet(path), str(path), names=names, voxel_size=voxel_size, offset=offset)
    return in_region(rows, region_nm)
