import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from blockwise.errors import InputError, MissingError
from tasks.synful.training.points import Pairs, read_cremi, read_table
from tests.synful.training.data import write_cremi

PRE, POST = np.array([[40.0, 80, 96], [80, 8, 16]]), np.array([[80.0, 88, 104], [120, 16, 8]])
NAMES = ("pre_z", "pre_y", "pre_x", "post_z", "post_y", "post_x")


def text(delimiter: str, names: tuple[str, ...] = NAMES) -> str:
    return "\n".join(delimiter.join(map(str, row)) for row in (names, *np.hstack([PRE, POST]).tolist())) + "\n"


def test_cremi_annotations_with_their_offset(tmp_path):
    file = write_cremi(
        tmp_path / "a.hdf", np.zeros((4, 20, 20), np.uint8), np.zeros((2, 4, 4), np.uint64), Pairs(PRE, POST), offset=(40, 8, 8)
    )
    found = read_cremi(file)
    np.testing.assert_array_equal(found.pre, PRE)
    np.testing.assert_array_equal(found.post, POST)


def test_a_file_without_annotations_has_no_pairs(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file["volumes/raw"] = np.zeros((2, 2, 2))
    assert read_cremi(tmp_path / "a.hdf") is None


def test_swapped_partners_are_refused(tmp_path):
    import h5py

    file = write_cremi(tmp_path / "a.hdf", np.zeros((4, 20, 20), np.uint8), np.zeros((2, 4, 4), np.uint64), Pairs(PRE, POST))
    with h5py.File(file, "r+") as opened:
        partners = opened["annotations/presynaptic_site/partners"]
        partners[...] = partners[:][:, ::-1]
    with pytest.raises(InputError, match=r"annotation 12 is in column 0 .* no presynaptic_site"):
        read_cremi(file)


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_tables_of_text(tmp_path, suffix, delimiter):
    file = tmp_path / f"points{suffix}"
    file.write_text(text(delimiter))
    found = read_table(file)
    assert (found.pre == PRE).all()
    assert (found.post == POST).all()


def test_tables_with_names_of_their_own(tmp_path):
    parquet.write_table(pa.table(dict(zip("abcdef", np.hstack([PRE, POST]).T, strict=True))), tmp_path / "p.parquet")
    found = read_table(tmp_path / "p.parquet", dict(zip(NAMES, "abcdef", strict=True)))
    assert (found.post == POST).all()


def test_sites_without_partners(tmp_path):
    (tmp_path / "p.csv").write_text("post_z,post_y,post_x\n1,2,3\n")
    found = read_table(tmp_path / "p.csv")
    assert np.isnan(found.pre).all()
    assert found.post.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("content", "columns", "error", "words"),
    [
        (text(",", (*NAMES[:5], "px")), {}, InputError, "and not post_x: say under `columns`"),
        (text(","), {"pre_q": "z"}, InputError, "columns name pre_q"),
        (text(",").replace("88.0", "north"), {}, InputError, "must hold numbers"),
        (None, {}, MissingError, "no table of points"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, content, columns, error, words):
    if content is not None:
        (tmp_path / "p.csv").write_text(content)
    with pytest.raises(error, match=words):
        read_table(tmp_path / "p.csv", columns)


def test_pairs_within_a_box():
    found = Pairs(PRE, POST).within((0, 0, 0), (200, 50, 200))
    assert found.post.tolist() == [[120, 16, 8]]
    found = Pairs(PRE, POST).within((100, 0, 0), (200, 50, 200))
    assert np.isnan(found.pre).all(), "a partner outside is not known"
