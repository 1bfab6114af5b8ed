"""Components that a block does not see whole: looked at again in boxes that grow, up to the largest."""

import numpy as np
import pytest

from blockwise.geometry import Domain, Region
from blockwise.grid import Grid, GridSpec
from tasks.synful.extraction import Extraction, Predictions
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

    found = extraction.whole_component((0, 0, 50), Region((0, 0, 50), (1, 1, 120)), Region((0, 0, 0), (1, 1, 100)), predict)
    assert isinstance(found, Region) != merged
    assert not merged or found["post_x"].to_pylist() == [4 * (50 + length - 1)]
