"""What a report shows of a data set of partners of any size."""

import numpy as np
import pyarrow.parquet as pq

from blockwise.geometry import Domain, Region
from tasks.synful.partners import table
from tasks.synful.results import busiest, fullest_section

VOLUME = Domain("volume", ("z", "y", "x"), (9, 2000, 900), (45.0, 4.4, 4.4), (90.0, 0.0, 0.0), ("nm",) * 3)


def test_the_section_and_square_with_most_post_sites(tmp_path):
    voxels = np.array([[2, 5, 5], [3, 10, 10], [3, 1600, 800], [3, 1601, 800], [5, 0, 0], [5, 1, 1]])
    post = np.ceil(voxels * np.array(VOLUME.voxel_size) + VOLUME.offset).astype(int)
    (tmp_path / "p.parquet").mkdir()
    for i, rows in enumerate((slice(0, 3), slice(3, 6))):
        pq.write_table(table(post[rows], post[rows], np.ones(3), np.arange(3)), tmp_path / "p.parquet" / f"{i}_0_0.parquet")
    assert fullest_section(tmp_path / "p.parquet", VOLUME) == 3
    rows = table(post[1:4], post[1:4], np.ones(3), np.arange(3))
    assert busiest(rows, 3, VOLUME) == Region((3, 1536, 768), (4, 2000, 900))
