import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from blockwise.errors import InputError, MissingError
from tasks.synful.skeleton_files import read_skeletons

SWC = "# a comment\n1 1 10 20 30 5 -1\n2 3 11.5 21 31 1 1\n"


def test_a_folder_of_swc_files(tmp_path):
    (tmp_path / "12.swc").write_text(SWC)
    (tmp_path / "7.swc").write_text("1 1 0 0 0 1 -1")
    got = read_skeletons(tmp_path, nm_per_unit=1000).to_pylist()
    assert [(n["neuron_id"], n["id"], n["parent"]) for n in got] == [(12, 1, None), (12, 2, 1), (7, 1, None)]
    assert (got[1]["z"], got[1]["y"], got[1]["x"], got[1]["type"]) == (31000, 21000, 11500, "neuron")


def test_tables(tmp_path):
    table = pa.table({"skeleton": [1, 2], "z": [1.0, 2], "y": [3, 4], "x": [5, 6], "segment": pa.array([2**63 + 1, None], pa.uint64())})
    csv.write_csv(table, tmp_path / "n.csv")
    pq.write_table(table, tmp_path / "n.parquet")
    names = {"neuron_id": "skeleton"}
    one, other = (read_skeletons(tmp_path / f, names=names) for f in ("n.csv", "n.parquet"))
    assert one.equals(other)
    assert one["segment"].to_pylist() == [2**63 + 1, None]
    assert one.schema.names == ["neuron_id", "z", "y", "x", "type", "id", "segment"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("a.swc", SWC, "named by its neuron's id"), ("3.swc", "1 2 3", "no SWC file"), ("3.swc", "1 2 x", "no SWC file")],
)
def test_refused_swc(name, text, says, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=says):
        read_skeletons(tmp_path)


def test_refused_tables(tmp_path):
    with pytest.raises(MissingError, match="holds no"):
        read_skeletons(tmp_path)
    with pytest.raises(MissingError, match="no skeletons at"):
        read_skeletons(tmp_path / "none")
    (tmp_path / "n.csv").write_text("neuron_id,z\n1,2\n")
    with pytest.raises(InputError, match="needs the columns y, x"):
        read_skeletons(tmp_path / "n.csv")
    (tmp_path / "n.csv").write_text("neuron_id,z\none,2\n")
    with pytest.raises(InputError, match="no table of skeleton nodes"):
        read_skeletons(tmp_path / "n.csv")
