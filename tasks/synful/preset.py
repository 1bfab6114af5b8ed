"""A commented configuration for a volume: what `blockwise init synful VOLUME` prints."""

import json
from pathlib import Path

from blockwise.errors import InputError
from tasks.synful.raw import Raw, open_raw

UNKNOWN_SIZE = (40.0, 4.0, 4.0)


def template(source: str) -> str:
    """A configuration with what can be read from the volume.

    Raises
    ------
    MissingError, InputError : the volume cannot be read.
    """
    raw, known = _found(source)
    size = "" if known else f"voxel_size = {list(UNKNOWN_SIZE)}     # nm, z y x; ASSUMED, the file states none. CHECK IT\n"
    variable = f"variable = {json.dumps(raw.variable)}\n" if raw.variable else ""
    name = Path(source.rstrip("/")).stem or "volume"
    shape = " x ".join(map(str, raw.shape))
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
