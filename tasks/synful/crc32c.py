"""CRC-32C (Castagnoli) of bytes, eight at a time by eight tables, and the masked form in which TensorFlow and LevelDB store it."""

import numba
import numpy as np
import numpy.typing as npt

POLYNOMIAL = 0x82F63B78


def crc32c(data: bytes | memoryview | npt.NDArray[np.uint8]) -> int:
    """CRC-32C of bytes; b"123456789" has 0xE3069283."""
    return int(_crc(np.frombuffer(data, np.uint8), _TABLES))


def masked(crc: int) -> int:
    """A checksum as it is stored among what it checks: rotated by 15 bits, a constant added."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _tables() -> npt.NDArray[np.uint32]:
    """Table k holds what a byte does to the checksum k bytes later."""
    tables = np.arange(256, dtype=np.uint32)[None].repeat(8, 0)
    for _ in range(8):
        tables[0] = np.where(tables[0] & 1, tables[0] >> 1 ^ np.uint32(POLYNOMIAL), tables[0] >> 1)
    for k in range(1, 8):
        tables[k] = tables[k - 1] >> 8 ^ tables[0][tables[k - 1] & 0xFF]
    return tables


_TABLES = _tables()


@numba.njit(cache=True, nogil=True)
def _crc(data: npt.NDArray[np.uint8], tables: npt.NDArray[np.uint32]) -> int:
    crc = np.uint32(0xFFFFFFFF)
    at, low = 0, np.uint32(0xFF)
    while at + 8 <= data.size:
        crc = (
            tables[7, data[at] ^ (crc & low)]
            ^ tables[6, data[at + 1] ^ (crc >> np.uint32(8) & low)]
            ^ tables[5, data[at + 2] ^ (crc >> np.uint32(16) & low)]
            ^ tables[4, data[at + 3] ^ (crc >> np.uint32(24))]
            ^ tables[3, data[at + 4]]
            ^ tables[2, data[at + 5]]
            ^ tables[1, data[at + 6]]
            ^ tables[0, data[at + 7]]
        )
        at += 8
    while at < data.size:
        crc = crc >> np.uint32(8) ^ tables[0, data[at] ^ (crc & low)]
        at += 1
    return crc ^ np.uint32(0xFFFFFFFF)
