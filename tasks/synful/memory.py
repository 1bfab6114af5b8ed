"""What a forward pass of the U-Net needs of memory and computation, and the largest aligned block that fits (Synful spec 3.4, 15)."""

from collections.abc import Sequence
from math import prod

SLAB_BYTES = 48_000_000
"""Of one map of a slab, float32: much more than the overlap of slabs, much less than the whole."""

LEAST_SECTIONS = 8


def slab_sections(maps: int, plane: Sequence[int], multiple: int = 1) -> int:
    """Sections of a slab of so many feature maps, a multiple of the pooling's."""
    return -(-max(LEAST_SECTIONS, SLAB_BYTES // (4 * maps * prod(plane))) // multiple) * multiple
