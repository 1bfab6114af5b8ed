import os
import pathlib
import pickle
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blockwise.errors import BlockwiseWarning, InputError, MissingError
from tasks.spikes.suite2p import Correction, Suite2pTraces, contents, frame_rate
from tests.spikes.folders import suite2p_plane

ALL = slice(None)


def expected(fluorescence, neuropil, coefficient=0.7, percentile=8):
    corrected = fluorescence.astype(float) - coefficient * neuropil.astype(float)
    baseline = np.percentile(corrected, percentile, axis=1, keepdims=True)
    return ((corrected - baseline) / baseline).astype(np.float32)


@pytest.mark.parametrize(
    ("correction", "rows"),
    [(Correction(), [0, 2, 3, 5]), (Correction(cells_only=False), [0, 1, 2, 3, 4, 5]), (Correction(0.5, 20), [0, 2, 3, 5])],
)
def test_dff_follows_the_stated_formula(tmp_path, correction, rows):
    fluorescence, neuropil = suite2p_plane(tmp_path / "plane0")
    opened = Suite2pTraces(tmp_path / "plane0", correction)
    whole = expected(fluorescence, neuropil, correction.coefficient, correction.percentile)[rows]
    np.testing.assert_array_equal(opened.rois, rows)
    np.testing.assert_array_equal(opened.read(ALL, ALL), whole)


def test_blocks_see_the_dff_of_the_whole_row(tmp_path):
    suite2p_plane(tmp_path / "plane0")
    whole = Suite2pTraces(tmp_path / "plane0", Correction()).read(ALL, ALL)
    opened = Suite2pTraces(tmp_path / "plane0", Correction())
    with ThreadPoolExecutor(4) as pool:
        pieces = list(pool.map(lambda f: opened.read(slice(1, 3), slice(f, f + 50)), range(0, 400, 50)))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole[1:3])


def test_rows_without_a_positive_baseline_are_nan_and_told_once(tmp_path):
    fluorescence, _ = suite2p_plane(tmp_path / "plane0")
    fluorescence[2] -= 1000
    np.save(tmp_path / "plane0/F.npy", fluorescence)
    opened = Suite2pTraces(tmp_path / "plane0", Correction())
    with pytest.warns(BlockwiseWarning, match=r"1 ROIs .* \(ROI 2\)"):
        first = opened.read(ALL, slice(0, 10))
    assert np.isnan(first[1]).all()
    assert np.isfinite(first[[0, 2, 3]]).all()
    assert np.isnan(opened.read(slice(1, 2), ALL)).all()


@pytest.mark.parametrize(
    "ops",
    [
        {"fs": 15.5, "meanImg": np.ones((4, 4), np.float32), "filelist": ["a.tif"], "save_path": pathlib.PurePosixPath("/data/x")},
        {"fs": np.float64(15.5), "badframes": np.zeros(3, bool), "extra": OrderedDict(a=(1, 2), b={3})},
        {"fs": 15.5, "ragged": np.array([np.ones(2), None], object)},
        '{"fs": 15.5, "tau": 1.0}',
    ],
)
def test_frame_rate_comes_from_the_settings(tmp_path, ops):
    suite2p_plane(tmp_path / "plane0", ops=ops)
    assert frame_rate(tmp_path / "plane0") == 15.5


def test_settings_written_by_numpy_1_and_by_newer_suite2p_are_read(tmp_path):
    suite2p_plane(tmp_path / "plane0")
    content = np.empty((), object)
    content[()] = {"fs": np.float64(15.5), "meanImg": np.ones((2, 2))}
    with (tmp_path / "plane0/settings.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickle.dumps(content, protocol=2).replace(b"numpy._core", b"numpy.core"))
    assert frame_rate(tmp_path / "plane0") == 15.5


@pytest.mark.parametrize("ops", [None, {"tau": 1.0}, {"fs": 0}, {"fs": "fast"}, "[1, 2]"])
def test_settings_without_a_rate_state_none(tmp_path, ops):
    suite2p_plane(tmp_path / "plane0", ops=ops)
    assert frame_rate(tmp_path / "plane0") is None


class _Command:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_pickle_that_asks_for_more_than_data_runs_nothing(tmp_path):
    target = tmp_path / "made_by_the_pickle"
    suite2p_plane(tmp_path / "plane0", ops={"fs": 15.5, "evil": _Command(str(target))})
    with pytest.raises(InputError, match=r"ops.npy: .*mkdir.* set input.frame_rate"):
        frame_rate(tmp_path / "plane0")
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not numpy at all"])
def test_settings_that_are_no_settings_are_told(tmp_path, content):
    suite2p_plane(tmp_path / "plane0")
    (tmp_path / "plane0/ops.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"ops\.npy cannot be parsed"):
        frame_rate(tmp_path / "plane0")


def _without_neuropil(plane):
    (plane / "Fneu.npy").unlink()


def _short_neuropil(plane):
    np.save(plane / "Fneu.npy", np.ones((6, 399), np.float32))


def _short_iscell(plane):
    np.save(plane / "iscell.npy", np.ones((5, 2)))


def _no_cells(plane):
    np.save(plane / "iscell.npy", np.zeros((6, 2)))


@pytest.mark.parametrize(
    ("spoil", "error", "text"),
    [
        (_without_neuropil, MissingError, "no Fneu.npy"),
        (_short_neuropil, InputError, r"\(6, 400\) and Fneu.npy \(6, 399\)"),
        (_short_iscell, InputError, "5 rows, F.npy 6"),
        (_no_cells, InputError, "none of 6 ROIs"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, spoil, error, text):
    suite2p_plane(tmp_path / "plane0")
    spoil(tmp_path / "plane0")
    with pytest.raises(error, match=text):
        contents(tmp_path / "plane0", Correction())


def test_identity_covers_files_and_formula(tmp_path):
    suite2p_plane(tmp_path / "plane0")
    plain = Suite2pTraces(tmp_path / "plane0", Correction()).identity()
    other = Suite2pTraces(tmp_path / "plane0", Correction(0.5)).identity()
    assert {k for k in plain if plain[k] != other[k]} == {"correction"}
    assert set(plain) == {"F.npy", "Fneu.npy", "iscell.npy", "correction"}
