"""Components that a block does not see whole: looked at again in boxes that grow, up to the largest."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.geometry import Domain, Region
from blockwise.grid import Grid, GridSpec
from tasks.synful.extraction import Extraction, Predictions, seed_table
from tasks.synful.options import ExtractOptions
from tasks.synful.views import Views

SIZE = (40.0, 4.0, 4.0)
VOLUME = Domain("volume", ("z", "y", "x"), (1, 1, 2000), SIZE, (0.0, 0.0, 0.0), ("nm",) * 3)


@pytest.mark.parametrize(("length", "merged"), [(499, True), (501, False), (570, False), (900, False)])
def test_the_largest_component_does_not_depend_on_how_boxes_grow(length, merged):
    """The first of 20 blocks sees 70 voxels of it; boxes show 380 and then up to 572 voxels of 4 nm."""
    mask = np.zeros(VOLUME.shape, np.float32)
    mask[..., 50 : 50 + length] = 0.9
    views = Views(Grid(VOLUME, GridSpec((1, 1, 100))), (0, 0, 20))
    extraction = Extraction(ExtractOptions(threshold=0.5, max_blob_um=2), views, SIZE, (0.0, 0.0, 0.0))

    def predict(region):
        return Predictions(mask[region.slices], np.zeros((3, *region.shape), np.float32), region.begin)

    found = extraction.whole_component((0, 0, 50), Region((0, 0, 50), (1, 1, 120)), predict)
    assert (found != "oversized") == merged
    assert not merged or found["post_x"].to_pylist() == [4 * (50 + length - 1)]


@pytest.mark.parametrize(
    ("begin", "verdict"), [(100, "partner"), (99, "different"), (80, "different"), (79, "different"), (50, "different")]
)
def test_what_another_tile_predicts_differently_is_told(begin, verdict):
    """The second of 20 blocks sees a component begin at voxel 100, where its core does; its view begins at 80."""
    views = Views(Grid(VOLUME, GridSpec((1, 1, 100))), (0, 0, 20))
    extraction = Extraction(ExtractOptions(threshold=0.5), views, SIZE, (0.0, 0.0, 0.0))
    mask = np.zeros(VOLUME.shape, np.float32)
    mask[..., begin:230] = 0.9
    found, oversized, different = extraction.merged(
        seed_table(*np.array([[[0, 0, 100]], [[0, 0, 100]], [[1, 1, 220]]])), predictions_of(mask)
    )
    assert (found.num_rows, oversized.num_rows, different) == (int(verdict == "partner"), 0, int(verdict == "different"))


def test_what_begins_beyond_a_view_is_another_blocks():
    views = Views(Grid(Domain("volume", ("z", "y", "x"), (1, 2, 300), SIZE), GridSpec((1, 2, 100))), (0, 0, 5))
    extraction = Extraction(ExtractOptions(threshold=0.5), views, SIZE, (0.0, 0.0, 0.0))
    mask = np.zeros((1, 2, 300), np.float32)
    mask[0, 0, 100:130] = mask[0, 1, 80:101] = 0.9
    mask[0, 0, 80:82] = 0.9
    _, seeds = extraction.block(predictions_of(mask)(Region((0, 0, 95), (1, 2, 205))), Region((0, 0, 100), (1, 2, 200)))
    assert seeds.num_rows == 1
    found, _, different = extraction.merged(seeds, predictions_of(mask))
    assert (found.num_rows, different) == (0, 0)


SHAPE = (10, 16, 18)
MAXIMA = {"method": "nms", "nms_radius": (40, 8, 8)}


def extraction_of(random, core, halo, share, **options):
    """An extraction in blocks of which a share, drawn at random, is computed, and the ids of these."""
    grid = Grid(Domain("volume", ("z", "y", "x"), SHAPE, SIZE, (0.0, 0.0, 0.0), ("nm",) * 3), GridSpec(core))
    chosen = random.random(len(grid)) < share
    margin = (2, 3, 3) if "nms_radius" in options else (1, 1, 1)
    views = Views(grid, tuple(np.maximum(halo, margin).tolist()), margin, computed=None if share == 1 else chosen.__getitem__)
    return Extraction(ExtractOptions(threshold=0.5, **options), views, SIZE, (0.0, 0.0, 0.0)), np.flatnonzero(chosen)


def predictions_of(mask):
    """Of any box; vectors are zero."""
    return lambda region: Predictions(mask[region.slices], np.zeros((3, *region.shape), np.float32), region.begin)


def extracted(extraction, blocks, predict):
    """Partners of blocks, those of their seeds, and seeds of components that are too long, block by block."""
    views, rows = extraction.views, []
    for block in views.grid.blocks(blocks):
        own, seeds = extraction.block(predict(views.view(block)), block.core)
        merged, oversized, different = extraction.merged(seeds, predict)
        assert not different
        rows.append((own, merged, oversized))
    return [pa.concat_tables(tables) for tables in zip(*rows, strict=True)] if rows else [pa.table({"id": []})] * 3


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.05, 0.2, 0.3]),
    st.tuples(st.integers(2, 6), st.integers(3, 14), st.integers(3, 14)),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.sampled_from([1.0, 0.7, 0.3]),
    st.sampled_from([{}, {"location": "centroid"}, MAXIMA]),
)
def test_no_partner_is_lost_or_found_twice_where_blocks_are_left_out(seed, density, core, halo, share, options):
    random = np.random.default_rng(seed)
    mask = np.where(random.random(SHAPE) < density, random.choice([0.6, 0.7, 0.8], SHAPE), 0).astype(np.float32)
    extraction, blocks = extraction_of(random, core, halo, share, **options)
    predict = predictions_of(mask)
    own, merged, _ = extracted(extraction, blocks, predict)
    whole = predict(extraction.views.grid.domains[0].region)
    blobs = extraction.components(whole)
    ours = extraction.views.is_computed(blobs.voxel)
    wanted = Counter(extraction.partners(blobs.take(ours), whole)["id"].to_pylist())
    beside = ours & ~extraction.views.is_computed(extraction.entries(blobs, whole))  # a centre may lie in a block that holds nothing of it
    found = Counter(own["id"].to_pylist() + merged["id"].to_pylist())
    assert found <= wanted
    assert wanted - found <= Counter(extraction.partners(blobs.take(beside), whole)["id"].to_pylist())
    assert not beside.any() or options


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000),
    st.tuples(st.integers(2, 6), st.integers(3, 14), st.integers(3, 14)),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.sampled_from([1.0, 0.7, 0.3]),
)
def test_what_is_too_long_counts_once(seed, core, halo, share):
    """A thread that goes through all sections, bent in each of them; 350 nm of it would be merged."""
    random = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.float32)
    bends = random.integers(0, SHAPE[1:], (SHAPE[0] + 1, 2))
    for z, ((y0, x0), (y1, x1)) in enumerate(pairwise(bends)):
        mask[z, min(y0, y1) : max(y0, y1) + 1, x0] = mask[z, y1, min(x0, x1) : max(x0, x1) + 1] = 0.9
    extraction, blocks = extraction_of(random, core, halo, share, max_blob_um=0.35)
    predict = predictions_of(mask)
    own, merged, oversized = extracted(extraction, blocks, predict)
    blob = extraction.components(predict(extraction.views.grid.domains[0].region))
    assert (len(blob), merged.num_rows) == (1, 0)
    needs_merging = not extraction.views.is_settled(blob.begin, blob.end, blob.voxel)[0]
    assert oversized.num_rows == 1 if needs_merging else oversized.num_rows + own.num_rows <= 1
