import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from blockwise.errors import InputError, MissingError
from tasks.synful.bodies import map_to_bodies
from tasks.synful.segments import map_to_segments
from tests.synful.mapped import mapped

LARGE = 2**63 + 5
BODIES = {7: 1, 3: LARGE, 9: 1}
PAIRS = np.array(list(BODIES.items()), np.uint64)
TABLE = pa.table({"supervoxel": PAIRS[:, 0], "body": PAIRS[:, 1]})


def partners():
    return mapped(np.zeros((4, 3)), np.zeros((4, 3)), np.ones(4), segment_pre=[3, 7, 9, None], segment_post=[LARGE, 3, 3, 3])


def saved(folder, kind):
    path = folder / f"bodies.{kind}"
    writers = {
        "npy": lambda: np.save(path, PAIRS),
        "parquet": lambda: pq.write_table(TABLE, path),
        "feather": lambda: feather.write_feather(TABLE, path),
        "csv": lambda: csv.write_csv(TABLE, path),
        "tsv": lambda: csv.write_csv(TABLE, path, csv.WriteOptions(delimiter="\t")),
    }
    writers[kind]()
    return path


@pytest.mark.parametrize("kind", ["mapping", "table", "array", "npy", "parquet", "feather", "csv", "tsv"])
def test_every_form_of_a_table(kind, tmp_path):
    forms = {"mapping": BODIES, "table": TABLE.select(["body", "supervoxel"]), "array": PAIRS}
    got = map_to_bodies(partners(), forms[kind] if kind in forms else saved(tmp_path, kind))
    assert got["body_pre"].to_pylist() == [LARGE, 1, 1, None]
    assert got["body_post"].to_pylist() == [None, LARGE, LARGE, LARGE]


def test_unlisted_supervoxels_may_be_their_own_bodies():
    got = map_to_bodies(partners(), {7: 1}, unlisted="same")
    assert got["body_pre"].to_pylist() == [3, 1, 9, None]
    assert map_to_bodies(partners(), {})["body_pre"].null_count == 4


def test_segments_and_bodies_in_one_call():
    ids = np.array([[[7, 3]]], np.uint32)
    one = mapped([[0, 0, 0]], [[0, 0, 1]], [1.0])
    got = map_to_segments(one, ids, voxel_size=(1, 1, 1), bodies=BODIES).to_pylist()[0]
    assert (got["segment_pre"], got["body_pre"], got["body_post"]) == (7, 1, LARGE)


@pytest.mark.parametrize(
    ("bodies", "says"),
    [
        (np.array([[7, 1], [7, 2]]), "supervoxel 7 belongs to two bodies, 1 and 2"),
        (np.zeros((3, 3), int), r"\(3, 3\)"),
        (pa.table({"a": [1.5], "b": [1]}), "two integer columns"),
        ("bodies.txt", "not '.txt'"),
    ],
)
def test_refusals(bodies, says, tmp_path):
    if isinstance(bodies, str):
        bodies = tmp_path / bodies
        bodies.write_text("1 2")
    with pytest.raises(InputError, match=says):
        map_to_bodies(partners(), bodies)


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingError, match=r"nothing\.npy"):
        map_to_bodies(partners(), tmp_path / "nothing.npy")


def test_a_row_listed_twice_is_one():
    got = map_to_bodies(partners(), np.array([[7, 1], [3, 2], [7, 1]]))
    assert got["body_pre"].to_pylist() == [2, 1, None, None]


def test_text_without_a_header(tmp_path):
    path = tmp_path / "bodies.csv"
    path.write_text("7,1\n3,2\n")
    assert map_to_bodies(partners(), path)["body_pre"].to_pylist() == [2, 1, None, None]
    path.write_text("name,body,supervoxel\na,1,7\nb,2,3\n")
    assert map_to_bodies(partners(), path)["body_pre"].to_pylist() == [2, 1, None, None]
    path.write_text("supervoxel,body\n7,one\n")
    with pytest.raises(InputError, match=r"bodies\.csv is no table"):
        map_to_bodies(partners(), path)
