"""What kind of failure an exception is: it decides whether and how a block is tried again."""

import errno
import traceback

from blockwise.lease import BlockError
from blockwise.ledger.contract import FailureKind
from blockwise.redaction import redact

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A file system turns read-only under a run when its disk fails: no block is at fault, and none of the next would fare better."""
TRANSIENT = (ConnectionError, TimeoutError, InterruptedError, BlockingIOError)
MEMORY_WORDS = ("out of memory", "cannot allocate memory", "bad_alloc", "resource exhausted", "cublas_status_alloc_failed")
DISK_WORDS = ("no space left on device", "disk quota exceeded", "resource_exhausted: error writing", "read-only file system")
TRANSIENT_WORDS = ("unavailable", "timed out", "temporarily", "connection reset", "stale file handle", "input/output error")


ERROR_CHARS: int = 500
TRACEBACK_CHARS: int = 8_000


def block_error(block: int, error: BaseException, *, with_traceback: bool = True) -> BlockError:
    """What one exception says of one block, as data without secrets; never raises, whatever the exception's text does."""
    kind, text = classify(error), redact(f"{type(error).__name__}: {_text(error)}")[:ERROR_CHARS]
    frames = redact("".join(traceback.format_exception(error)))[-TRACEBACK_CHARS:] if with_traceback else ""
    return BlockError(block, kind, text, frames, is_disk_full(error))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:
        return f"its text cannot be shown ({type(second).__name__})"


def classify(error: BaseException) -> FailureKind:
    """`memory`: may fit alone. `transient`: may pass later. `poison`: would fail again."""
    text = _text(error).lower()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or any(w in text for w in MEMORY_WORDS):
        return "memory"
    if isinstance(error, TRANSIENT) or is_disk_full(error) or any(w in text for w in TRANSIENT_WORDS):
        return "transient"
    if isinstance(error, OSError) and not isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return "transient"
    return "poison"


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, full or read-only, is at fault and not the block; such a block is never quarantined for it."""
    return (isinstance(error, OSError) and error.errno in DISK_FULL) or any(w in _text(error).lower() for w in DISK_WORDS)
