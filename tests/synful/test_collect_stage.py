"""Parts of blocks become cells: every partner once, whatever the cells, masked blocks left out."""

import numpy as np
import pyarrow as pa
import pytest

from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from blockwise.storage.tables import TableParts
from blockwise.testing import run_serially
from tasks.synful.cells import Cells, read_partners
from tasks.synful.collect_stage import Collect, cell_grid
from tasks.synful.partners import cantor_ids, ordered, schema, table

SIZE = (40.0, 4.0, 4.0)
VOLUME = Domain("volume", ("z", "y", "x"), (20, 60, 70), SIZE, (400.0, 80.0, 0.0), ("nm",) * 3)
BLOCKS = Grid(VOLUME, GridSpec((6, 20, 20)))


def random_partners(n, seed=0):
    random = np.random.default_rng(seed)
    voxels = random.integers(0, VOLUME.shape, (n, 3))
    post = voxels * np.array(SIZE) + np.array(VOLUME.offset)
    return table(post + 40, post, random.random(n), cantor_ids(voxels)), BLOCKS.owner(0, voxels)


def write_parts(path, rows, owners, moved):
    """Rows of each block into its part; those in `moved` into the spanning part of a neighbour instead."""
    own, spanning = (TableParts(str(path), name, schema(), BLOCKS) for name in ("own", "spanning"))
    for parts, chosen, shift in ((own, ~moved, 0), (spanning, moved, 1)):
        parts.create()
        for block in BLOCKS.blocks(np.arange(len(BLOCKS))):
            mine = chosen & (np.minimum(owners + shift, len(BLOCKS) - 1) == block.id)
            parts.write(block, rows.filter(pa.array(mine))).future.result()
    return own, spanning


@pytest.mark.parametrize("cell_um", [0.01, 0.2, 5])
def test_every_partner_is_in_one_cell(tmp_path, cell_um):
    rows, owners = random_partners(500)
    own, spanning = write_parts(tmp_path / "out", rows, owners, np.arange(500) % 7 == 0)
    cells = Cells(str(tmp_path / "out"), "partners", cell_grid(VOLUME, BLOCKS.spec.shape, cell_um))
    stage = Collect([own], [spanning], cells, reach=VOLUME.shape, mask=None)
    run_serially(stage)
    found = read_partners(cells.folder)
    assert ordered(found).equals(ordered(rows))
    assert stage.finish().figures["partners"] == 500
    assert all(s % c == 0 for s, c in zip(cells.grid.spec.shape, BLOCKS.spec.shape, strict=True))


def test_masked_blocks_have_no_parts(tmp_path):
    rows, owners = random_partners(200)
    own, _ = write_parts(tmp_path / "out", rows, owners, np.zeros(200, bool))
    own.file(BLOCKS.block(3)).unlink()
    cells = Cells(str(tmp_path / "out"), "partners", cell_grid(VOLUME, BLOCKS.spec.shape, 1))
    run_serially(Collect([own], [], cells, reach=(0, 0, 0), mask=lambda ids: ids != 3))
    assert read_partners(cells.folder).num_rows == 200 - (owners == 3).sum()


def test_a_box_of_partners(tmp_path):
    rows, owners = random_partners(300)
    own, _ = write_parts(tmp_path / "out", rows, owners, np.zeros(300, bool))
    cells = Cells(str(tmp_path / "out"), "partners", cell_grid(VOLUME, BLOCKS.spec.shape, 0.2))
    run_serially(Collect([own], [], cells, reach=(0, 0, 0), mask=None))
    found = read_partners(cells.folder, ((600, 100, 40), (800, 200, 160)))
    z, y, x = (rows[f"post_{a}"].to_numpy() for a in "zyx")
    assert found.num_rows == ((z >= 600) & (z < 800) & (y >= 100) & (y < 200) & (x >= 40) & (x < 160)).sum() > 0
