import pytest

from blockwise.errors import MissingError, ModelError
from tasks.synful.graph_definition import LOGITS, activation_of, nodes
from tests.synful.tensorflow_files import write_meta

HEAD = (LOGITS, "BiasAdd", "syn_indicator_0/Conv3D", "syn_indicator_0/bias/read")
CROSS_ENTROPY = [
    HEAD,
    ("Reshape_2", "Reshape", LOGITS, "shape"),
    ("logistic_loss/mul", "Mul", "Reshape_2"),
    ("Sigmoid", "Sigmoid", "Reshape_2:0"),
]


@pytest.mark.parametrize(
    ("graph", "activation"),
    [
        (CROSS_ENTROPY, "sigmoid"),
        ([HEAD, ("syn_indicator_0/Relu", "Relu", LOGITS), ("Reshape_2", "Reshape", "syn_indicator_0/Relu")], "relu"),
        ([HEAD, ("syn_indicator_0/Sigmoid", "Sigmoid", LOGITS)], "sigmoid"),
        ([HEAD, ("Reshape", "Reshape", LOGITS), ("sub", "SquaredDifference", "Reshape")], "none"),
        ([HEAD, ("gradients/x", "Sigmoid", LOGITS)], "none"),
        ([("other/BiasAdd", "BiasAdd"), ("Sigmoid", "Sigmoid", "other/BiasAdd")], None),
    ],
)
def test_the_activation_after_the_logits(tmp_path, graph, activation):
    meta = write_meta(tmp_path / "net.meta", *graph)
    assert [tuple([name, op, *inputs]) for name, op, inputs in nodes(meta)] == graph
    assert activation_of(meta) == activation


def test_another_activation_is_refused(tmp_path):
    with pytest.raises(ModelError, match="Tanh follows the mask's logits"):
        activation_of(write_meta(tmp_path / "net.meta", HEAD, ("syn_indicator_0/Tanh", "Tanh", LOGITS)))


@pytest.mark.parametrize(
    ("content", "why"), [(b"\x12\xff\x01ab", "the file is cut off"), (b"<html>", "of another kind|cut off"), (b"\x80" * 3, "cut off")]
)
def test_what_is_no_graph_is_refused(tmp_path, content, why):
    (tmp_path / "net.meta").write_bytes(content)
    with pytest.raises(ModelError, match=why):
        activation_of(tmp_path / "net.meta")


def test_no_graph_is_missing(tmp_path):
    with pytest.raises(MissingError, match="no graph at"):
        activation_of(tmp_path / "net.meta")


@pytest.mark.parametrize(("activation", "found"), [("sigmoid", "sigmoid"), ("relu", "relu"), (None, "none")])
def test_graphs_that_tensorflow_wrote(tmp_path, activation, found):
    tf = pytest.importorskip("tensorflow").compat.v1
    with tf.Graph().as_default():
        maps, kernel = tf.placeholder(tf.float32, (1, 8, 8, 8, 4)), tf.placeholder(tf.float32, (1, 1, 1, 4, 1))
        with tf.name_scope("syn_indicator_0"):
            logits = tf.nn.bias_add(tf.nn.conv3d(maps, kernel, (1,) * 5, "VALID"), tf.zeros(1), name="BiasAdd")
        logits = tf.reshape(logits, (8, 8, 8))
        if activation:
            getattr(tf.nn, activation)(logits)
        loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.zeros((8, 8, 8)), logits=logits))
        tf.gradients(loss, kernel)
        tf.train.export_meta_graph(str(tmp_path / "net.meta"))
    assert activation_of(tmp_path / "net.meta") == found
