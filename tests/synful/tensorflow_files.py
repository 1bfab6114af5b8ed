"""Files as TensorFlow writes them, small: checkpoints of the V2 form and graphs, encoded here byte by byte."""

import struct

import numpy as np

from tasks.synful.crc32c import crc32c, masked


def varint(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fixed32(number, value):
    return varint(number << 3 | 5) + struct.pack("<I", value)


def block(entries):
    """A block of a LevelDB table; keys share what they begin with."""
    out, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last)))
        out, last = out + varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value, key
    body = out + struct.pack("<II", 0, 1) + b"\0"
    return body + struct.pack("<I", masked(crc32c(body)))


def table(entries):
    """A LevelDB table of one data block."""
    data, meta = block(entries), block([])
    handle = varint(0) + varint(len(data) - 5)
    index = block([(b"\xff", handle)])
    footer = varint(len(data)) + varint(len(meta) - 5) + varint(len(data) + len(meta)) + varint(len(index) - 5)
    return data + meta + index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write_checkpoint(prefix, arrays, shards=1, header=b"", **more):
    """Variables by name, dealt out to shards in turn; `more` bytes are appended to the entry of a name."""
    contents, entries = [b""] * shards, [(b"", header or field(1, shards))]
    for number, (name, array) in enumerate(sorted(arrays.items())):
        shard, data = number % shards, np.asarray(array).tobytes()
        kind = {"f4": 1, "f8": 2, "i4": 3, "i8": 9}[np.asarray(array).dtype.str[1:]]
        lengths = b"".join(field(2, field(1, n)) for n in np.shape(array))
        where = field(3, shard) + field(4, len(contents[shard])) + field(5, len(data)) + fixed32(6, masked(crc32c(data)))
        entries.append((name.encode(), field(1, kind) + field(2, lengths) + where + more.get(name, b"")))
        contents[shard] += data
    prefix.with_name(prefix.name + ".index").write_bytes(table(entries))
    for shard, content in enumerate(contents):
        prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{shards:05}").write_bytes(content)
    return prefix


def write_meta(path, *nodes):
    """A MetaGraphDef of nodes (name, operation, inputs)."""
    graph = b"".join(field(1, field(1, name) + field(2, op) + b"".join(field(3, i) for i in inputs)) for name, op, *inputs in nodes)
    path.write_bytes(field(1, field(4, "2.0")) + field(2, graph + field(4, field(1, 1))))
    return path
