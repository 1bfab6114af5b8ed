"""Stages over the cells of partners: mapping to neurons, clefts, and the shuffle that brings every pair of neurons together.

Each reads a cell of one data set and writes the same cell of another, so that a new segmentation, which names another data set and
another stage, recomputes these and nothing before them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from blockwise.geometry import Domain, Region
from blockwise.grid import Block, GridSpec
from blockwise.storage.identity import identity
from blockwise.storage.writes import Array, Write
from blockwise.task import Task
from tasks.synful.cells import Cells

if TYPE_CHECKING:
    import pyarrow as pa

    from blockwise.storage import Source
    from tasks.synful.grid_search_task import SearchOptions
    from tasks.synful.options import MapOptions

BUCKET = "bucket"


def short_digest(values: Mapping[str, object]) -> str:
    """8 hex characters that name a choice of inputs and options."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]


def open_segmentation(options: "MapOptions | SearchOptions", volume: Domain) -> "Source":
    """The segmentation, its place in nm.

    Raises
    ------
    MissingError, InputError : it is not there, no volume of ids, or at an unknown place.
    """
    from tasks.synful.lookup import placement_of
    from tasks.synful.placed import open_placed

    source = open_placed(str(options.segmentation), options.segmentation_variable, "segmentation", like=volume)
    placement_of(source, None, None)
    return source


def open_clefts(options: "MapOptions", volume: Domain) -> "Source":
    """The cleft scores, their place in nm. Errors as `open_segmentation`."""
    from tasks.synful.placed import open_placed

    return open_placed(str(options.clefts), options.clefts_variable, "clefts", like=volume)


class CellStage(Task):
    """A cell of `source` -> the same cell of `target`."""

    name: ClassVar[str] = "cells"

    def __init__(self, source: Cells, target: Cells) -> None:
        self.source, self.target = source, target

    def domains(self) -> Sequence[Domain]:
        return self.target.grid.domains

    def spec(self) -> GridSpec:
        return self.target.grid.spec

    def output_path(self) -> str:
        return self.target.path

    def prepare(self) -> None:
        self.target.create()

    def read(self, block: Block) -> "pa.Table":
        return self.source.read(block)

    def compute(self, inputs: "pa.Table", state: Any) -> "pa.Table":
        return inputs

    def write(self, block: Block, result: "pa.Table") -> Sequence[Write]:
        return [self.target.write(block, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        found = self.target.stored(block)
        return None if found is None else [found]


class MapSegments(CellStage):
    """Segments and bodies at both sites; reading is most of the work, so it happens in the I/O threads."""

    def __init__(self, source: Cells, options: "MapOptions") -> None:
        self.options = options
        self.inputs = {"segmentation": options.segmentation, "variable": options.segmentation_variable, "bodies": options.bodies}
        digest = short_digest({**self.inputs, "rounding": options.rounding})
        self.name = f"segments-{digest}"  # type: ignore[misc]  # a stage per segmentation
        super().__init__(source, Cells(source.path, self.name, source.grid))

    def relevant_options(self) -> Mapping[str, object]:
        return {"rounding": self.options.rounding}

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        prints = {"input.segmentation": identity(str(self.options.segmentation), self.options.segmentation_variable)}
        return prints | ({"input.bodies": identity(self.options.bodies)} if self.options.bodies else {})

    def open(self) -> None:
        from tasks.synful.bodies import sorted_bodies

        self.segmentation = open_segmentation(self.options, self.target.grid.domains[0])
        self.bodies = np.stack(sorted_bodies(self.options.bodies), axis=1) if self.options.bodies else None

    def read(self, block: Block) -> "pa.Table":
        from tasks.synful.segments import map_to_segments

        rows = super().read(block)
        return map_to_segments(rows, self.segmentation, rounding=self.options.rounding, background=(0,), bodies=self.bodies)


class MapSkeletons(CellStage):
    """Traced neurons at both sites, among those with nodes in the site's segment."""

    def __init__(self, source: Cells, options: "MapOptions") -> None:
        self.options = options
        given = {"source": source.name, "skeletons": options.skeletons, "distance": options.skeleton_distance}
        self.name = f"skeletons-{short_digest(given)}"  # type: ignore[misc]  # a stage per set of skeletons
        super().__init__(source, Cells(source.path, self.name, source.grid))

    def relevant_options(self) -> Mapping[str, object]:
        return {"skeleton_distance": self.options.skeleton_distance}

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        place = Path(str(self.options.skeletons))
        files = sorted(place.glob("*.swc")) if place.is_dir() else [place]
        return {"input.skeletons": short_digest({f.name: identity(f) for f in files})}

    def open(self) -> None:
        from tasks.synful.columns import with_columns
        from tasks.synful.partners import AXES
        from tasks.synful.segments import segments_at
        from tasks.synful.skeleton_files import read_skeletons

        nodes = read_skeletons(str(self.options.skeletons))
        if "segment" not in nodes.schema.names:
            segmentation = open_segmentation(self.options, self.target.grid.domains[0])
            at = np.stack([nodes[a].to_numpy() for a in AXES], axis=1)
            nodes = with_columns(nodes, {"segment": segments_at(at, segmentation, rounding=self.options.rounding)})
        self.nodes = nodes

    def setup(self, device: str) -> "pa.Table":
        return self.nodes

    def compute(self, inputs: "pa.Table", state: "pa.Table") -> "pa.Table":
        from tasks.synful.skeletons import map_to_skeletons

        return map_to_skeletons(inputs, state, distance_upper_bound_nm=self.options.skeleton_distance)


class AssignClefts(CellStage):
    """The cleft between the sites of each partner, from a volume of cleft scores read around the cell.

    A cleft's id is 1 + the raster index of its first voxel in the volume, the same from every cell that sees that voxel.
    """

    def __init__(self, source: Cells, options: "MapOptions") -> None:
        self.options = options
        given = {"source": source.name, "clefts": options.clefts, "variable": options.clefts_variable, "t": options.cleft_threshold}
        self.name = f"clefts-{short_digest(given)}"  # type: ignore[misc]  # a stage per volume of clefts
        super().__init__(source, Cells(source.path, self.name, source.grid))

    def relevant_options(self) -> Mapping[str, object]:
        return {"cleft_threshold": self.options.cleft_threshold, "cleft_reach": self.options.cleft_reach}

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        return {"input.clefts": identity(str(self.options.clefts), self.options.clefts_variable)}

    def open(self) -> None:
        self.scores = open_clefts(self.options, self.target.grid.domains[0])

    def memory(self) -> Mapping[str, int]:
        """Scores of the cells in the pipeline, and of one of them the labels."""
        size = np.array(self.target.grid.domains[0].voxel_size)
        sides = np.array(self.target.grid.spec.shape) * size + 2 * self.options.cleft_reach
        source = open_clefts(self.options, self.target.grid.domains[0])
        voxels = int(np.minimum(np.ceil(sides / source.voxel_size), source.shape).prod())
        source.close()
        return {"clefts, 4 in the pipeline": 4 * voxels * source.dtype.itemsize, "labels": 6 * voxels}

    def read(self, block: Block) -> tuple["pa.Table", Array, Region]:
        rows = super().read(block)
        region = around(rows, self.scores, self.options.cleft_reach)
        return rows, self.scores.read(region), region

    def compute(self, inputs: tuple["pa.Table", Array, Region], state: Any) -> "pa.Table":
        from tasks.synful.clefts import assign_clefts, label_clefts
        from tasks.synful.columns import nullable, values_and_valid, with_columns

        rows, values, region = inputs
        size, threshold = self.scores.voxel_size, self.options.cleft_threshold
        offset = [o + b * v for o, b, v in zip(self.scores.offset, region.begin, size, strict=True)]
        found = assign_clefts(rows, values, size, threshold=threshold, offset=offset).partners
        labels = label_clefts(values, threshold)
        clefts = np.flatnonzero(labels)[::-1]
        first = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
        first[labels.reshape(-1)[clefts]] = clefts  # the last to be written is the first in raster order
        places = np.stack(np.unravel_index(first, values.shape), axis=1) + region.begin
        ids = 1 + np.ravel_multi_index(tuple(places.T), self.scores.shape).astype(np.uint64)
        ids[0] = 0
        local, valid = values_and_valid(found["cleft_id"])
        return with_columns(found, {"cleft_id": nullable(ids[local], valid)})


def around(partners: "pa.Table", source: Any, reach_nm: float) -> Region:
    """The part of a volume that holds all sites and `reach_nm` around them; one voxel where there are none."""
    from tasks.synful.partners import points

    whole = Region((0, 0, 0), tuple(source.shape))
    if not partners.num_rows:
        return Region((0, 0, 0), (1, 1, 1))
    sites = np.concatenate([points(partners, "pre"), points(partners, "post")]) - np.array(source.offset)
    low = np.floor((sites.min(axis=0) - reach_nm) / source.voxel_size).astype(int)
    high = np.ceil((sites.max(axis=0) + reach_nm) / source.voxel_size).astype(int) + 1
    found = Region(tuple(low.tolist()), tuple(high.tolist())).intersect(whole)
    return found if found.size else Region((0, 0, 0), (1, 1, 1))


class Shuffle(CellStage):
    """Rows of each cell by the bucket of their pair of neurons, one row group per bucket, so that a bucket is read without the others."""

    def __init__(self, source: Cells, by: str, buckets: int) -> None:
        self.by, self.buckets = by, buckets
        self.name = f"pairs-{source.name}"  # type: ignore[misc]  # a stage per mapping
        super().__init__(source, Cells(source.path, self.name, source.grid))

    def relevant_options(self) -> Mapping[str, object]:
        return {"by": self.by, "buckets": self.buckets}

    def compute(self, inputs: "pa.Table", state: Any) -> "pa.Table":
        import pyarrow as pa

        bucket = bucket_of(inputs, self.by, self.buckets)
        order = np.argsort(bucket, kind="stable")
        return inputs.take(pa.array(order)).append_column(BUCKET, pa.array(bucket[order]))

    def write(self, block: Block, result: "pa.Table") -> Sequence[Write]:
        borders = np.flatnonzero(np.diff(result[BUCKET].to_numpy())) + 1
        edges = [0, *borders.tolist(), result.num_rows]
        groups = [result.slice(b, e - b) for b, e in pairwise(edges)]
        return [self.target.write(block, *groups)]


def bucket_of(partners: "pa.Table", by: str, buckets: int) -> "np.typing.NDArray[np.int32]":
    """The bucket of every row, (n,) int32: the same for all rows of a pair (pre, post) of neurons, rows without both spread by their id.

    A segment without a body counts as one, so that pairs of segments stay together too.
    """
    pre, post = (_keys(partners, by, end) for end in ("pre", "post"))
    mixed = _mixed(_mixed(pre) ^ (post + np.uint64(0x9E3779B97F4A7C15)))
    lone = (pre == 0) | (post == 0)
    mixed[lone] = _mixed(partners["id"].to_numpy()[lone])
    return np.asarray(mixed % np.uint64(buckets), np.int32)


def _keys(partners: "pa.Table", by: str, end: str) -> "np.typing.NDArray[np.uint64]":
    """What a row's end belongs to, 0 for nothing."""
    own = partners[f"{by}_{end}"].fill_null(0).to_numpy().astype(np.uint64)
    if by == "segment" or f"segment_{end}" not in partners.schema.names:
        return own
    return np.where(own == 0, partners[f"segment_{end}"].fill_null(0).to_numpy().astype(np.uint64), own)


def _mixed(x: "np.typing.NDArray[np.uint64]") -> "np.typing.NDArray[np.uint64]":
    """The finaliser of SplitMix64: every bit of the input moves every bit of the output."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
