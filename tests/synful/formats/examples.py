"""Partners for the tests of formats: as a table and as a data set of cells."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.synful.partners import cantor_ids, ordered, table

SIZE = np.array((40, 4, 4))
OFFSET = np.array((4000, 800, 1200))
SHAPE = np.array((60, 200, 200))


def partners(n=500, *, seed=0, mapped=False):
    """Partners on the voxel grid of a volume of SHAPE voxels at OFFSET; `mapped` with segments, some of them null."""
    random = np.random.default_rng(seed)
    flat = random.choice(int(np.prod(SHAPE)), n, replace=False)
    post = np.stack(np.unravel_index(flat, SHAPE), axis=1)
    pre = post + random.integers(-25, 26, (n, 3)) * (1, 8, 8)
    world = OFFSET // SIZE
    more = {}
    if mapped:
        ids = random.integers(0, 12, (2, n)).astype(np.uint64) + np.uint64(2**63 - 5)
        more = {f"segment_{end}": pa.array(v, mask=random.random(n) < 0.2) for end, v in zip(("pre", "post"), ids, strict=True)}
    sites = (pre + world) * SIZE, (post + world) * SIZE
    return ordered(table(*sites, random.gamma(2, 50, n), cantor_ids(post + world), more=more))


def as_data_set(rows, folder, cells=4):
    """The same rows as files, one per run of rows."""
    folder.mkdir(parents=True)
    for number, some in enumerate(np.array_split(np.arange(rows.num_rows), cells)):
        pq.write_table(rows.take(pa.array(some)), folder / f"{number}_0_0.parquet")
    return folder


def assert_same(found, wanted, columns=None):
    """Equal in the columns named, by default all of `wanted`, in values and order."""
    for name in columns or wanted.schema.names:
        assert found[name].to_pylist() == wanted[name].to_pylist(), name


SITES = ("pre_z", "pre_y", "pre_x", "post_z", "post_y", "post_x")
BOX = ((4400.0, 900.0, 1300.0), (5200.0, 1300.0, 1800.0))


def in_box(rows):
    """The rows whose post site lies in BOX."""
    from tasks.synful.partners import points

    post = points(rows, "post")
    return rows.filter(pa.array(((post >= BOX[0]) & (post < BOX[1])).all(axis=1)))
