"""Arrays on disk and on servers: sources to read, outputs to write block by block, files that survive a crash.

Nothing heavy is imported before it is used: `import blockwise.storage` costs numpy only.
"""

from blockwise.storage.durable import check_makeable, check_writable, free_bytes, make_folders, sweep_locks, sync_folder, write_atomic
from blockwise.storage.identity import identity
from blockwise.storage.opening import open_source
from blockwise.storage.output import OutputArray, check_group, create_group, group_attributes, set_group_attributes
from blockwise.storage.placement import Placement
from blockwise.storage.source import ArraySource, Source
from blockwise.storage.writes import Array, Durable, Write, checksum

__all__ = [
    "Array",
    "ArraySource",
    "Durable",
    "OutputArray",
    "Placement",
    "Source",
    "Write",
    "check_group",
    "check_makeable",
    "check_writable",
    "checksum",
    "create_group",
    "free_bytes",
    "group_attributes",
    "identity",
    "make_folders",
    "open_source",
    "set_group_attributes",
    "sweep_locks",
    "sync_folder",
    "write_atomic",
]
