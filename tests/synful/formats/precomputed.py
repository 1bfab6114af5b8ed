"""A reader of precomputed annotations, written from the published description of the format; shards are read by tensorstore."""

import itertools
import json
import struct
from pathlib import Path

import numpy as np
import tensorstore as ts


class Annotations:
    """One folder of lines."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.info = json.loads((self.folder / "info").read_text())
        assert self.info["@type"] == "neuroglancer_annotations_v1"
        assert self.info["annotation_type"] == "LINE"
        assert {p["type"] for p in self.info["properties"]} == {"float32"}
        self.numbers = 6 + len(self.info["properties"])

    def sharded(self, entry):
        """Values by key of an index, from all of its shards."""
        metadata = entry["sharding"]
        store = ts.KvStore.open(
            {
                "driver": "neuroglancer_uint64_sharded",
                "base": {"driver": "file", "path": f"{self.folder / entry['key']}/"},
                "metadata": metadata,
            }
        ).result()
        return {struct.unpack(">Q", key)[0]: bytes(store[key]) for key in store.list().result()}

    def by_id(self):
        """Id -> (numbers, related ids per relationship)."""
        return {key: self._single(value) for key, value in self.sharded(self.info["by_id"]).items()}

    def _single(self, data):
        values, at, related = np.frombuffer(data, "<f4", self.numbers), 4 * self.numbers, []
        for _ in self.info["relationships"]:
            (count,) = struct.unpack_from("<I", data, at)
            related.append(struct.unpack_from(f"<{count}Q", data, at + 4))
            at += 4 + 8 * count
        assert at == len(data)
        return values, related

    def _several(self, data):
        (count,) = struct.unpack_from("<Q", data)
        assert len(data) == 8 + count * (4 * self.numbers + 8)
        values = np.frombuffer(data, "<f4", count * self.numbers, 8).reshape(count, self.numbers)
        ids = np.frombuffer(data, "<u8", count, 8 + values.nbytes)
        return dict(zip(ids.tolist(), values, strict=True))

    def related(self, name):
        """Id of a neuron -> its annotations by id."""
        entry = next(r for r in self.info["relationships"] if r["id"] == name)
        return {key: self._several(value) for key, value in self.sharded(entry).items()}

    def cells(self, level):
        """(x, y, z) of a cell -> its annotations by id; cells without a file have none."""
        entry = self.info["spatial"][level]
        files = [p.name for p in (self.folder / entry["key"]).iterdir()]
        assert set(files) <= {"_".join(map(str, c)) for c in itertools.product(*map(range, entry["grid_shape"]))}
        found = {tuple(map(int, n.split("_"))): self._several((self.folder / entry["key"] / n).read_bytes()) for n in files}
        assert all(len(c) <= entry["limit"] for c in found.values())
        return found
