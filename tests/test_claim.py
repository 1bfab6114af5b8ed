"""An output belongs to one run, and so do the files that a run exports beside it."""

from pathlib import Path

import pytest

from blockwise.claim import check_exports, claim_of, claim_output
from blockwise.errors import PlanRefused
from blockwise.folder import RunFolder
from blockwise.storage import create_group, set_group_attributes


@pytest.fixture
def claimed(tmp_path):
    """A run that claimed a.zarr and exports rates.npy beside it."""
    folder = RunFolder.make(tmp_path / "a.run")
    claim_output(str(tmp_path / "a.zarr"), folder, {}, [tmp_path / "rates.npy"])
    return folder


def check(folder: Path, name: str, run: RunFolder | None = None, *files: str) -> None:
    check_exports([folder / f for f in files or ("rates.npy",)], str(folder / name), run)


def test_a_run_may_replace_its_own_exports(claimed, tmp_path):
    (tmp_path / "rates.npy").touch()
    check(tmp_path, "a.zarr", claimed)


def test_exports_of_another_run_are_refused_before_they_exist(claimed, tmp_path):
    with pytest.raises(PlanRefused, match=r"rates\.npy belongs to the run that writes .*a\.zarr, .*into another folder"):
        check(tmp_path, "b.zarr")


def test_files_of_no_known_run_are_refused(claimed, tmp_path):
    (tmp_path / "more.npy").touch()
    for name, run in (("b.zarr", None), ("a.zarr", claimed)):
        with pytest.raises(PlanRefused, match=r"more\.npy was not written by this run.*move the file away"):
            check(tmp_path, name, run, "more.npy")


def test_all_are_counted(claimed, tmp_path):
    for name in ("x.npy", "y.npy", "z.npy"):
        (tmp_path / name).touch()
    with pytest.raises(PlanRefused, match=r"x\.npy \(and 2 more\)"):
        check(tmp_path, "b.zarr", None, "x.npy", "y.npy", "z.npy")


def test_exports_of_earlier_starts_stay_the_runs_own(claimed, tmp_path):
    claim_output(str(tmp_path / "a.zarr"), claimed, {}, [tmp_path / "other.npy"])
    assert claim_of(str(tmp_path / "a.zarr"))["exports"] == ["other.npy", "rates.npy"]


def test_a_run_whose_output_is_lost_keeps_its_exports(claimed, tmp_path):
    (tmp_path / "rates.npy").touch()
    (tmp_path / "a.zarr" / "zarr.json").unlink()
    (claimed.path / "config.json").touch()
    check(tmp_path, "a.zarr", claimed)


def test_a_claim_from_before_exports_were_listed_is_believed(claimed, tmp_path):
    (tmp_path / "rates.npy").touch()
    set_group_attributes(str(tmp_path / "a.zarr"), {"blockwise": {"run": claimed.run, "folder": "", "fingerprint": {}}})
    check(tmp_path, "a.zarr", claimed)


def test_neighbours_that_cannot_be_read_and_other_groups_do_no_harm(tmp_path):
    create_group(tmp_path / "group.zarr")
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr" / "zarr.json").write_text("{")
    check(tmp_path, "b.zarr")
