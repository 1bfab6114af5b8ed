"""What follows the mask's logits in the graph of a TensorFlow .meta file, read without TensorFlow (Synful spec 4.3).

Of a MetaGraphDef only field 2 is read, its GraphDef; of that field 1, the nodes; of a node 1 name, 2 operation, 3 inputs.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from blockwise.errors import MissingError, ModelError
from tasks.synful.protobuf import fields

LOGITS = "syn_indicator_0/BiasAdd"

PASSING = frozenset({"Reshape", "Squeeze", "Identity", "ExpandDims", "StopGradient"})
"""Operations that leave values as they are."""

ACTIVATIONS = {"Sigmoid": "sigmoid", "Relu": "relu"}
UNUSABLE = frozenset({"Tanh", "Elu", "Selu", "Relu6", "LeakyRelu", "Softplus", "Softmax", "Softsign"})


def nodes(meta: str | Path) -> Iterator[tuple[str, str, list[str]]]:
    """(name, operation, inputs) of every node of a graph.

    Raises
    ------
    MissingError : no such file.  ModelError : not a .meta file.
    """
    file = Path(meta)
    if not file.is_file():
        raise MissingError(f"no graph at {file}")
    try:
        for number, graph in fields(memoryview(file.read_bytes())):
            if number == 2 and isinstance(graph, memoryview):
                yield from (_node(node) for n, node in fields(graph) if n == 1 and isinstance(node, memoryview))
    except ModelError as error:
        raise ModelError(f"{file} is not a TensorFlow graph: {error}") from None


def activation_of(meta: str | Path) -> str | None:
    """The activation that follows the mask's logits in a graph: "sigmoid", "relu", or "none" where nothing does.

    Looked for behind operations that leave values as they are; gradients do not count. None where the graph has no mask.

    Raises
    ------
    MissingError : no such file.  ModelError : not a .meta file, or another activation.
    """
    users = defaultdict(list)
    present = False
    for name, operation, inputs in nodes(meta):
        present = present or name == LOGITS
        if not name.startswith("gradients"):
            for source in inputs:
                users[source.split(":")[0]].append((name, operation))
    layer, seen = [LOGITS], {LOGITS}
    while layer:
        found = [user for source in layer for user in users[source] if user[0] not in seen]
        if known := [operation for _, operation in found if operation in ACTIVATIONS or operation in UNUSABLE]:
            return _usable(known[0], meta)
        layer = [name for name, operation in found if operation in PASSING]
        seen.update(layer)
    return "none" if present else None


def _usable(operation: str, meta: str | Path) -> str:
    if operation in UNUSABLE:
        raise ModelError(f"{meta}: {operation} follows the mask's logits; only {', '.join(ACTIVATIONS)} and nothing are known")
    return ACTIVATIONS[operation]


def _node(message: memoryview) -> tuple[str, str, list[str]]:
    name = operation = ""
    inputs = []
    for number, value in fields(message):
        if isinstance(value, memoryview) and number in (1, 2, 3):
            text = str(value, "utf-8", "replace")
            name, operation = (text if number == 1 else name), (text if number == 2 else operation)
            inputs += [text] if number == 3 else []
    return name, operation, inputs
