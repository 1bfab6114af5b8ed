import os

import numpy as np
import pytest

from blockwise.errors import MissingError, ModelError
from tasks.synful.crc32c import crc32c, masked
from tasks.synful.tensorflow_checkpoint import TensorFlowCheckpoint
from tests.synful.tensorflow_files import field, write_checkpoint

VARIABLES = {
    "a/kernel": np.arange(24, dtype="f4").reshape(2, 3, 4),
    "a/kernel/Adam": np.ones((2, 3, 4), "f4"),
    "b": np.array(7, "i8"),
    "empty": np.zeros((0, 3), "f4"),
    "wide": np.linspace(0, 1, 1001),
}


@pytest.fixture
def prefix(tmp_path):
    return write_checkpoint(tmp_path / "net_1", VARIABLES)


@pytest.mark.parametrize(("data", "crc"), [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (bytes(range(32)), 0x46DD794E)])
def test_checksums(data, crc):
    assert crc32c(data) == crc
    assert masked(0) == 0xA282EAD8


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("suffix", ["", ".index"])
def test_variables_are_read(tmp_path, shards, suffix):
    prefix = write_checkpoint(tmp_path / "net_1", VARIABLES, shards)
    found = TensorFlowCheckpoint(f"{prefix}{suffix}")
    assert found.shapes == {name: a.shape for name, a in VARIABLES.items()}
    for name, stored in VARIABLES.items():
        np.testing.assert_array_equal(found[name], stored)
        assert found[name].dtype == stored.dtype


def test_only_what_is_asked_for_is_read(prefix):
    data = next(prefix.parent.glob("*.data*"))
    with data.open("r+b") as file:
        file.seek(100)  # within a/kernel/Adam
        file.write(b"x")
    found = TensorFlowCheckpoint(prefix)
    np.testing.assert_array_equal(found["a/kernel"], VARIABLES["a/kernel"])
    with pytest.raises(ModelError, match="variable a/kernel/Adam do not fit their checksum"):
        found["a/kernel/Adam"]


def test_a_shard_cut_off_is_refused_with_both_sizes(prefix):
    data = next(prefix.parent.glob("*.data*"))
    os.truncate(data, 1000)
    with pytest.raises(ModelError, match="has 1000 bytes, variable wide ends at 8208: the file is cut off"):
        TensorFlowCheckpoint(prefix)["wide"]


def test_a_missing_shard_is_named(prefix):
    next(prefix.parent.glob("*.data*")).unlink()
    with pytest.raises(MissingError, match="data-00000-of-00001 is not there: it holds variable b"):
        TensorFlowCheckpoint(prefix)["b"]


def damaged(content, kind):
    return {
        "empty": b"",
        "text": b"model_checkpoint_path: 'a'" * 10,
        "beginning": content[:100],
        "end": content[-100:],
        "bit": bytes([content[0] ^ 1]) + content[1:],
        "compressed": content[: content.index(b"\0\0\0\0\1\0\0\0") + 8] + b"\1" + content[content.index(b"\0\0\0\0\1\0\0\0") + 9 :],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("empty", "cut off or of another kind"),
        ("text", "cut off or of another kind"),
        ("beginning", "cut off or of another kind"),
        ("end", "the file at 100: it is cut off"),
        ("bit", "does not fit its checksum"),
        ("compressed", "blocks are compressed"),
    ],
)
def test_what_is_no_index_is_refused(prefix, kind, why):
    index = prefix.with_name("net_1.index")
    index.write_bytes(damaged(index.read_bytes(), kind))
    with pytest.raises(ModelError, match=why):
        TensorFlowCheckpoint(prefix)


def test_no_checkpoint_is_missing(tmp_path):
    with pytest.raises(MissingError, match=r"net_1\.index is not there"):
        TensorFlowCheckpoint(tmp_path / "net_1")


def test_other_byte_orders_and_slices_are_refused(tmp_path):
    with pytest.raises(ModelError, match="big-endian"):
        TensorFlowCheckpoint(write_checkpoint(tmp_path / "a", VARIABLES, header=field(1, 1) + field(2, 1)))
    sliced = TensorFlowCheckpoint(write_checkpoint(tmp_path / "b", VARIABLES, b=field(7, b"")))
    with pytest.raises(ModelError, match="variable b is stored in slices"):
        sliced["b"]


def test_a_shape_that_does_not_fit_its_bytes_is_refused(tmp_path):
    found = TensorFlowCheckpoint(write_checkpoint(tmp_path / "a", VARIABLES, b=field(2, field(2, field(1, 3)))))
    with pytest.raises(ModelError, match=r"variable b of shape \[3\] cannot have 8 bytes"):
        found["b"]


def test_checkpoints_that_tensorflow_wrote(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    names = sorted(VARIABLES)
    tensors = [tensorflow.constant(VARIABLES[n]) for n in names]
    tensorflow.raw_ops.SaveV2(prefix=str(tmp_path / "net_1"), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
    found = TensorFlowCheckpoint(tmp_path / "net_1")
    assert set(found) == set(names)
    for name in names:
        np.testing.assert_array_equal(found[name], VARIABLES[name])
