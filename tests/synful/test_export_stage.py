"""Exports as a stage: every format holds the run's partners, a lost one is found, a further one is one more block."""

import json

import numpy as np
import pytest

from blockwise.errors import ConfigError, InputError
from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from blockwise.testing import run_serially
from tasks.synful.cells import Cells
from tasks.synful.export_stage import Exports
from tasks.synful.formats import EXPORTS, ExportContext, read_any
from tasks.synful.partners import ordered
from tests.ledger.conftest import database, mongodb
from tests.synful.formats.examples import BOX, OFFSET, SHAPE, SITES, SIZE, assert_same, in_box, partners
from tests.synful.formats.precomputed import Annotations

__all__ = ["database", "mongodb"]

FILES = [n for n, e in EXPORTS.items() if e.ending]
CONTEXT = ExportContext(tuple(SIZE), tuple(OFFSET), tuple(SHAPE * SIZE), (800.0, 400.0, 400.0))


@pytest.fixture
def source(tmp_path):
    """A data set of one cell in an output."""
    cells = Cells(str(tmp_path / "run.zarr"), "partners", Grid(Domain("volume", ("z", "y", "x"), tuple(SHAPE)), GridSpec(tuple(SHAPE))))
    cells.create()
    cells.write(cells.grid.block(0), partners()).future.result()
    return cells


def test_every_format_holds_the_partners(source, tmp_path):
    stage, rows = Exports(source, FILES, CONTEXT), partners()
    run_serially(stage)
    assert sorted(p.name for p in stage.exports()) == sorted(p.name for p in tmp_path.iterdir() if p.name != "run.zarr")
    for name in FILES:
        if name == "neuroglancer":
            assert set(Annotations(stage.target(name)).by_id()) == set(rows["id"].to_pylist())
        else:
            found = ordered(read_any(stage.target(name), **({"resolution": SIZE} if name == "cave" else {})))
            assert_same(found, rows, ["id", *SITES])
    figures = stage.finish().figures
    assert {name: f["rows"] for name, f in figures.items()} == dict.fromkeys(FILES, rows.num_rows)
    assert figures["cremi"]["place"] == "run.partners.hdf"


@pytest.mark.parametrize("name", ["csv", "sqlite", "cremi", "npz", "parquet"])
def test_any_reader_takes_a_box(source, name):
    stage = Exports(source, [name], CONTEXT)
    run_serially(stage)
    assert_same(ordered(read_any(stage.target(name), region_nm=BOX)), in_box(partners()), ["id", *SITES])
    assert_same(read_any(source.folder, region_nm=BOX), in_box(partners()))


@pytest.mark.parametrize("name", FILES)
def test_what_is_stored_is_what_was_written(source, name):
    stage = Exports(source, [name], CONTEXT)
    stage.prepare()
    block = stage.receipts.grid.block(0)
    assert stage.stored(block) is None
    for _ in range(2):  # a second time gives the same bytes
        writes = stage.write(block, stage.compute(stage.read(block), None))
        written = [w.data.tobytes() for w in writes if w.future is None or not w.future.result()]
        assert [a.tobytes() for a in stage.stored(block)] == written
    file = min(p for p in (stage.target(name), *stage.target(name).rglob("*")) if p.is_file())
    file.write_bytes(file.read_bytes() + b"\n")
    assert [a.tobytes() for a in stage.stored(block)] != written


def test_documents_on_a_server(source, database):
    context = ExportContext(*(getattr(CONTEXT, n) for n in ("voxel_size", "offset", "extent", "block")), mongodb=database)
    stage = Exports(source, ["mongodb"], context)
    run_serially(stage)
    assert stage.exports() == []
    assert_same(read_any(f"{database}/partners"), partners())
    assert stage.stored(stage.receipts.grid.block(0)) is not None


def test_formats_are_domains_of_their_own(source):
    one, two = Exports(source, ["csv"], CONTEXT), Exports(source, ["sqlite", "csv", "csv"], CONTEXT)
    assert [d.name for d in two.domains()] == ["sqlite", "csv"]
    assert one.domains()[0].digest == two.domains()[1].digest
    assert one.fingerprint(0) == two.fingerprint(1) == {"units": "nm", "ending": "csv"}


def test_what_cannot_be_written_is_refused_before_anything_is(source):
    with pytest.raises(InputError, match="fractions"):
        Exports(source, ["npz"], ExportContext((40, 4.6, 4.6), (0, 0, 0), (400, 460, 460), (400, 4.6, 46)))
    with pytest.raises(ConfigError, match="BLOCKWISE_MONGODB_USER") as error:
        Exports(source, ["mongodb"], ExportContext(*[(1, 1, 1)] * 4, mongodb="mongodb://me:hidden@host/x"))
    assert "hidden" not in str(error.value)


def test_other_files_are_no_partners(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({}))
    with pytest.raises(InputError):
        read_any(tmp_path / "a.json")
    np.savez(tmp_path / "b.npz", a=1)
    with pytest.raises(InputError):
        read_any(tmp_path)
