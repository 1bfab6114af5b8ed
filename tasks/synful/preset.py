"""Commented configurations: what `blockwise init synful VOLUME` prints, and `blockwise init synful-extract PREDICTIONS`."""

import json
from pathlib import Path

from blockwise.errors import InputError
from tasks.synful.options import StoreOptions
from tasks.synful.raw import Raw, open_raw
from tasks.synful.stored_predictions import StoredPredictions

UNKNOWN_SIZE = (40.0, 4.0, 4.0)


def template(source: str) -> str:
    """A configuration with what can be read from the volume.

    Raises
    ------
    MissingError, InputError : the volume cannot be read.
    """
    raw, known = _found(source)
    shape = " x ".join(map(str, raw.shape))
    order = "" if min(raw.shape) == raw.shape[0] else f", AND THE ORDER OF AXES: the volume is read as {shape}, z y x"
    size = "" if known else f"voxel_size = {list(UNKNOWN_SIZE)}     # nm, z y x; ASSUMED, the file states none. CHECK IT{order}\n"
    variable = f"variable = {json.dumps(raw.variable)}\n" if raw.variable else ""
    name = Path(source.rstrip("/")).stem or "volume"
    return f"""# Synaptic partners of {source}: {shape} voxels of {" x ".join(f"{v:g}" for v in raw.voxel_size)} nm, {raw.dtype}
# Check what it will do:  blockwise plan FILE.     Run it, and run it again after any stop:  blockwise run FILE
task = "synful"

[input]
path = {json.dumps(source)}
{variable}{size}
[model]
path = "p_setup51"                # a checkpoint, a setup folder, or a name from `blockwise models list`

[output]
path = {json.dumps(name + "_partners.zarr")}

[options]
mode = "fused"                    # "stored" keeps the predictions as arrays
grid = "aligned"                  # no seams; "compat" has the original's tiles

[options.extract]
method = "cc"                     # "nms" with nms_radius = [40, 40, 40] is better where a segmentation removes autapses
threshold = 0.95
score = "sum"
min_score = 5                     # raise it for fewer false partners: the published best were 60 to 130

# [options.map]                   # to which neurons the sites belong
# segmentation = "segmentation.zarr"

# [options.filter]                # of partners that are mapped
# drop_autapses = "segment"

[blocks]
shape = "auto"                    # the largest that fits a GPU's memory, or, without a GPU, this:
memory = "2GB"

[cluster]
workers = 1                       # one per GPU
"""


def extraction_template(source: str) -> str:
    """A configuration that finds partners in stored predictions, with what can be read from them.

    Raises
    ------
    MissingError, InputError : they cannot be read, or are no predictions by the usual names.
    """
    found, known = _stored(source)
    size = "" if known else f"voxel_size = {list(UNKNOWN_SIZE)}     # nm, z y x; ASSUMED, the container states none. CHECK IT\n"
    name = Path(source.rstrip("/")).stem or "predictions"
    shape, lengths = (by.join(f"{v:g}" for v in values) for by, values in ((" x ", found.domain.shape), (" x ", found.domain.voxel_size)))
    return f"""# Synaptic partners of the predictions {source}: {shape} voxels of {lengths} nm
# Stored values are divided by their attribute `scale` when they are read: {found.mask_scale:g} and {found.vectors_scale:g} here.
# Check what it will do:  blockwise plan FILE.     Run it, and run it again after any stop:  blockwise run FILE
task = "synful-extract"

[input]
path = {json.dumps(source)}
{size}
[output]
path = {json.dumps(name + "_partners.zarr")}

[options.store]                   # arrays of the container
mask = {json.dumps(found.mask)}
vectors = {json.dumps(found.vectors)}

[options.extract]
method = "cc"                     # "nms" with nms_radius = [40, 40, 40] is better where a segmentation removes autapses
threshold = 0.95                  # a probability, however the mask is stored
score = "sum"
min_score = 5                     # raise it for fewer false partners: the published best were 60 to 130

# [options.map]                   # to which neurons the sites belong
# segmentation = "segmentation.zarr"

# [options.filter]                # of partners that are mapped
# drop_autapses = "segment"

[cluster]
workers = 4
"""


def _stored(source: str) -> tuple[StoredPredictions, bool]:
    """The predictions, and whether their voxel size is known."""
    try:
        return StoredPredictions.find(source, StoreOptions()), True
    except InputError as error:
        if "voxel size" not in str(error):
            raise
        return StoredPredictions.find(source, StoreOptions(), UNKNOWN_SIZE), False


def _found(source: str) -> tuple[Raw, bool]:
    """The volume, and whether its voxel size is known."""
    try:
        reader, known = open_raw(source), True
    except InputError as error:
        if "voxel size" not in str(error):
            raise
        reader, known = open_raw(source, voxel_size=UNKNOWN_SIZE), False
    reader.close()
    return reader.raw, known
