"""Runs models over huge volumes and long recordings: blockwise, resumable, on one machine or a cluster."""

from blockwise._version import __version__
from blockwise.errors import BlockwiseError, BlockwiseWarning
from blockwise.geometry import Domain, Region
from blockwise.grid import Block, Grid, GridSpec

__all__ = ["Block", "BlockwiseError", "BlockwiseWarning", "Domain", "Grid", "GridSpec", "Region", "__version__"]
