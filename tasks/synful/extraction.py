"""From the predictions that one block sees to the partners it reports, and to seeds of components that it does not see whole.

The rules of `views` decide who reports; what is found here is what the whole volume would tell of the same component. Seeds are looked
at again by `whole_component`, in boxes that grow until the component is complete, and kept where they are the whole component's entry.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region
from tasks.synful.partners import AXES
from tasks.synful.views import inside

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.synful.blobs import Blobs
    from tasks.synful.options import ExtractOptions
    from tasks.synful.views import Points, Views

Array = npt.NDArray[Any]
SEED_COLUMNS = tuple(f"{what}_{a}" for what in ("first", "begin", "end") for a in AXES)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of a box of the data set.

    Parameters
    ----------
    mask : (z, y, x), probability times `mask_scale`.  vectors : (3, z, y, x), nm times `vectors_scale`.
    begin : where the box begins, voxels of the data set.
    """

    mask: Array
    vectors: Array
    begin: tuple[int, ...]
    mask_scale: float = 1.0
    vectors_scale: float = 1.0

    @property
    def region(self) -> Region:
        return Region(self.begin, tuple(b + n for b, n in zip(self.begin, self.mask.shape, strict=True)))

    def cut(self, region: Region) -> "Predictions":
        """Those of a box within this one."""
        inside = region.shift([-b for b in self.begin]).slices
        return replace(self, mask=self.mask[inside], vectors=self.vectors[(slice(None), *inside)], begin=region.begin)


OfBox = Callable[[Region], Predictions]
"""Predictions of any box of the data set."""

Dropped = Literal["elsewhere", "oversized", "different"]
"""Why a seed leads to no partner.

elsewhere : another block reports the component, or hands it in.  oversized : it is longer than `max_blob_um`.
different : predicted again, what the block saw of it has another entry, for tiles of the compat grid differ around their cores.
"""


@dataclass(frozen=True, slots=True)
class Extraction:
    """How partners are found, and where the data set stands.

    Parameters
    ----------
    options : `[options.extract]`.
    voxel_size, offset : nm, of the data set.
    roi : voxels; post sites outside are left out.
    """

    options: "ExtractOptions"
    views: "Views"
    voxel_size: tuple[float, ...]
    offset: tuple[float, ...]
    roi: Region | None = None

    def components(self, predictions: Predictions) -> "Blobs":
        """All components of a box, whatever their score; positions count from the box, scores are in probabilities."""
        from tasks.synful.blobs import find_blobs

        o, scale = self.options, predictions.mask_scale
        found = find_blobs(
            predictions.mask,
            method=o.method,
            threshold=o.threshold * scale,
            score=o.score,
            location=o.location,
            voxel_size=self.voxel_size,
            nms_radius=o.nms_radius,
            box=self.views.certain(predictions.region) if o.method == "nms" else None,
        )
        counted = o.method == "cc" and o.score == "count"
        return found if counted or scale == 1 else replace(found, score=found.score / scale)

    def block(self, predictions: Predictions, core: Region) -> tuple["pa.Table", "pa.Table"]:
        """Partners that the block of `core` reports, and its seeds: the entry of a component and the box that its view shows of it."""
        blobs = self.components(predictions)
        begin, end, _, post = self._placed(blobs, predictions.begin)
        mine, unsettled = self.views.verdicts(core, begin, end, post)
        near = np.flatnonzero(unsettled & ((begin < core.end) & (end > core.begin)).all(axis=1))
        entries = self.entries(blobs.take(near), predictions)
        handed = inside(entries, core)
        seeds = near[handed]
        return self.partners(blobs.take(np.flatnonzero(mine)), predictions), seed_table(entries[handed], begin[seeds], end[seeds])

    def entries(self, blobs: "Blobs", predictions: Predictions) -> "Points":
        """(n, 3) voxels of the data set: of every component the first voxel in a block that is computed, or its first where none is."""
        from tasks.synful.blobs import voxels_of

        o, origin = self.options, np.array(predictions.begin, np.int64)
        found = blobs.first + origin
        for n in np.flatnonzero(~self.views.is_computed(found)):
            voxels = origin + voxels_of(blobs, int(n), predictions.mask, o.threshold * predictions.mask_scale, self._radius)
            found[n] = voxels[self.views.is_computed(voxels).argmax()]
        return found

    @property
    def _radius(self) -> tuple[int, int, int] | None:
        """Of local maxima, voxels."""
        from tasks.synful.maxima import radius_voxels

        o = self.options
        return radius_voxels(self.voxel_size, o.nms_radius) if o.method == "nms" and o.nms_radius else None

    def _placed(self, blobs: "Blobs", begin: tuple[int, ...]) -> tuple["Points", ...]:
        return tuple(v + np.array(begin, np.int64) for v in (blobs.begin, blobs.end, blobs.first, blobs.voxel))

    def partners(self, blobs: "Blobs", predictions: Predictions) -> "pa.Table":
        """Partners of complete components in the region of interest whose score is above `min_score`."""
        from tasks.synful.blobs import partners_of

        if self.roi is not None:
            post = blobs.voxel + np.array(predictions.begin)
            blobs = blobs.take(((post >= self.roi.begin) & (post < self.roi.end)).all(axis=1))
        if self.options.split_distance is not None:
            blobs = self._parted(blobs, predictions)
        if self.options.min_score is not None:
            blobs = blobs.take(np.flatnonzero(blobs.score > self.options.min_score))
        return partners_of(
            blobs,
            predictions.vectors,
            self.voxel_size,
            offset=self.offset,
            begin=predictions.begin,
            vectors_scale=predictions.vectors_scale,
        )

    def _parted(self, blobs: "Blobs", predictions: Predictions) -> "Blobs":
        """Components parted into hills, each a component of its own with the voxels that are left to it."""
        from scipy import ndimage

        from tasks.synful.blobs import Blobs, find_blobs
        from tasks.synful.splitting import split_component

        o, scale, parts = self.options, predictions.mask_scale, [blobs.take(np.zeros(0, np.int64))]
        for begin, end, first in zip(blobs.begin, blobs.end, blobs.first, strict=True):
            crop = predictions.mask[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))]
            labels, _ = ndimage.label(crop > o.threshold * scale)
            member = labels == labels[tuple(first - begin)]
            hills = split_component(crop, member, self.voxel_size, min_distance_nm=o.split_distance or 0, prominence=o.prominence * scale)
            for hill in range(1, int(hills.max()) + 1):
                alone = np.where(hills == hill, crop, 0)
                found = find_blobs(alone, threshold=o.threshold * scale, score=o.score, location=o.location, voxel_size=self.voxel_size)
                parts.append(_moved(found, begin, self.voxel_size, 1 if o.score == "count" else scale))
        return Blobs(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Blobs)))

    def merged(self, seeds: "pa.Table", predict: OfBox) -> tuple["pa.Table", "pa.Table", int]:
        """Partners of the components that seeds belong to, each once; seeds of those longer than `max_blob_um`; how many were different."""
        import pyarrow as pa

        from tasks.synful.partners import schema

        found, oversized, different = [schema().empty_table()], [], 0
        for row, (entry, begin, end) in enumerate(zip(*seed_points(seeds), strict=True)):
            match self.whole_component(tuple(entry), Region(tuple(begin), tuple(end)), predict):
                case "elsewhere":
                    continue
                case "oversized":
                    oversized.append(row)
                case "different":
                    different += 1
                case rows:
                    found.append(rows)
        return pa.concat_tables(found), seeds.take(pa.array(oversized, pa.int64())), different

    def whole_component(self, entry: tuple[int, ...], box: Region, predict: OfBox) -> "pa.Table | Dropped":
        """The row of the component whose entry a seed is, looked for in boxes that grow; no row where its score is too low."""
        while True:
            predictions, blobs = self._look(entry, box, predict)
            if not len(blobs):
                return "elsewhere" if self._is_as_seen(entry, predictions) else "different"
            begin, end, _, post = self._placed(blobs, predictions.begin)
            seen, box = predictions.region, Region(tuple(begin[0].tolist()), tuple(end[0].tolist()))
            complete = self.views.complete(begin, end, np.array(seen.begin), np.array(seen.end))[0]
            if complete and self.views.is_settled(begin, end, post)[0]:
                return "elsewhere"
            if max(n * v for n, v in zip(box.shape, self.voxel_size, strict=True)) > self.options.max_blob_um * 1000:
                return "oversized" if complete else self._too_long(entry, predict)
            if complete:
                return self.partners(blobs, predictions)
            half = tuple(max(1, n // 2) for n in box.shape)
            box = box.grow(half, half)

    def _look(self, entry: tuple[int, ...], box: Region, predict: OfBox) -> tuple[Predictions, "Blobs"]:
        """What a box shows of the component with an entry; nothing where the component that holds this voxel has another."""
        margin = tuple(2 * m for m in self.views.margin)
        predictions = predict(box.grow(margin, margin).intersect(self.views.grid.domains[0].region))
        return predictions, self._holding(entry, predictions)

    def _holding(self, entry: tuple[int, ...], predictions: Predictions) -> "Blobs":
        """The component of a box whose entry this is."""
        blobs = self.components(predictions)
        begin, end, *_ = self._placed(blobs, predictions.begin)
        blobs = blobs.take(np.flatnonzero(((begin <= entry) & (end > entry)).all(axis=1)))
        return blobs.take((self.entries(blobs, predictions) == entry).all(axis=1))

    def _is_as_seen(self, entry: tuple[int, ...], predictions: Predictions) -> bool:
        """Whether the block that handed in an entry would hand it in again, from these predictions of what its view shows of it."""
        view = Region(*(tuple(corner[0].tolist()) for corner in self.views.of_owners(np.array([entry]))))
        return len(self._holding(entry, predictions.cut(predictions.region.intersect(view)))) > 0

    def _too_long(self, entry: tuple[int, ...], predict: OfBox) -> Dropped:
        """Whether a component that is longer than `max_blob_um` counts here: not if it has another entry within that reach."""
        reach = [int(self.options.max_blob_um * 1000 // v) for v in self.voxel_size]
        _, blobs = self._look(entry, Region(entry, tuple(n + 1 for n in entry)).grow(reach, reach), predict)
        return "oversized" if len(blobs) else "elsewhere"


def _moved(blobs: "Blobs", by: "Points", voxel_size: tuple[float, ...], scale: float) -> "Blobs":
    """Blobs of a crop as those of the box it was cut from, scores in probabilities."""
    from tasks.synful.blobs import whole_nm

    places = {n: getattr(blobs, n) + by for n in ("begin", "end", "first", "voxel")}
    return replace(blobs, **places, post_nm=whole_nm(places["voxel"] * np.array(voxel_size)), score=blobs.score / scale)


def seed_schema() -> "pa.Schema":
    """First voxel, begin and end of what a block saw of a component, int64 voxels of the data set."""
    import pyarrow as pa

    return pa.schema([pa.field(name, pa.int64(), nullable=False) for name in SEED_COLUMNS])


def seed_table(first: "Points", begin: "Points", end: "Points") -> "pa.Table":
    """Seeds: first voxel and box of what a block saw, voxels of the data set."""
    import pyarrow as pa

    columns = np.concatenate([first, begin, end], axis=1).T
    return pa.table([pa.array(np.ascontiguousarray(c)) for c in columns], schema=seed_schema())


def seed_points(seeds: "pa.Table") -> tuple["Points", "Points", "Points"]:
    """First voxels, begins and ends, (n, 3) each."""
    columns = np.stack([seeds[name].to_numpy() for name in SEED_COLUMNS], axis=1).reshape(-1, 9)
    return columns[:, :3], columns[:, 3:6], columns[:, 6:]
