"""What kind of failure an exception is."""

import errno

import pytest

from blockwise.errors import ConfigError, InputError, MissingError, StorageError
from blockwise.failures import ERROR_CHARS, TRACEBACK_CHARS, block_error, classify, is_disk_full


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no such neuron"), "poison"),
        (KeyError("dff"), "poison"),
        (ZeroDivisionError(), "poison"),
        (FileNotFoundError(errno.ENOENT, "gone"), "poison"),
        (PermissionError(errno.EACCES, "no"), "poison"),
        (MissingError("no variable"), "poison"),
        (InputError("rank 3"), "poison"),
        (ConfigError("options"), "poison"),
        (MemoryError(), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (ConnectionResetError(), "transient"),
        (TimeoutError("timed out"), "transient"),
        (OSError(errno.EIO, "Input/output error"), "transient"),
        (OSError(errno.ESTALE, "Stale file handle"), "transient"),
        (StorageError("cannot read 0..4 of a.zarr: UNAVAILABLE"), "transient"),
        (OSError(errno.ENOSPC, "No space left on device"), "transient"),
    ],
    ids=lambda v: v if isinstance(v, str) else repr(v)[:30],
)
def test_the_class_of_an_exception(error, kind):
    assert classify(error) == kind


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EROFS, "x"), True),
        (StorageError(errno.ENOSPC, "cannot write"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Error writing /o/c.0: no room"), True),
        (OSError(errno.EIO, "x"), False),
        (ValueError("full of holes"), False),
    ],
)
def test_a_full_or_read_only_disk_is_known_whoever_says_so(error, full):
    assert is_disk_full(error) is full


def test_what_is_kept_of_an_exception_is_bounded():
    try:
        raise ValueError("x" * 100_000)
    except ValueError as error:
        kept = block_error(7, error)
    assert (kept.id, len(kept.error), len(kept.traceback)) == (7, ERROR_CHARS, TRACEBACK_CHARS)
    assert block_error(7, ValueError("y"), with_traceback=False).traceback == ""


def test_secrets_in_an_exception_stay_where_it_was_raised():
    try:
        raise OSError("cannot read https://h/em.zarr?X-Amz-Signature=hunter22&level=1")
    except OSError as error:
        told = block_error(1, error)
    assert "hunter22" not in told.error + told.traceback
    assert "X-Amz-Signature=***&level=1" in told.error
