"""Protocol buffers as they lie in bytes: fields by number, without their definitions."""

from collections.abc import Iterator

from blockwise.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """An integer of seven bits per byte, and where it ends.

    Raises
    ------
    ModelError : the bytes end within it.
    """
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ModelError("the bytes end within an integer: the file is cut off or of another kind")


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a message, in order: an integer, or the bytes of a text or message.

    Raises
    ------
    ModelError : not a message.
    """
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = varint(message, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ModelError(f"field {number} is of kind {kind}, which no message has: the file is of another kind")
        if at + size > len(message):
            raise ModelError(f"field {number} of {size} bytes where {len(message) - at} are left: the file is cut off")
        content = message[at : at + size]
        yield number, content if kind == BYTES else int.from_bytes(content, "little")
        at += size
