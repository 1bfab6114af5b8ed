"""Every error and warning that blockwise raises: one small tree, each class also a builtin.

A message says what is wrong, where, both numbers where there are two, and the fix. The command line maps the
tree to exit codes: a `BlockwiseError` before anything ran is usage or a refused plan (2).
"""


class BlockwiseError(Exception):
    """Base of every error of ours."""


class ConfigError(BlockwiseError, ValueError):
    """A configuration, option or argument that cannot be used."""


class InputError(BlockwiseError, ValueError):
    """An input whose content does not fit: rank, dtype, rate, units, or a file that cannot be parsed."""


class MissingError(InputError, FileNotFoundError):
    """A file, folder or variable inside a file that is not there."""


class PlanRefused(BlockwiseError, ValueError):
    """A plan that would lose data, not fit, or mix with another run's output."""


class AlignmentError(PlanRefused):
    """Cores that would share a chunk or shard of the output."""


class FingerprintMismatch(PlanRefused):
    """A run folder or output made with other settings; names the differing keys."""


class RunActive(BlockwiseError, RuntimeError):
    """The run or its output belongs to a living driver."""


class StorageError(BlockwiseError, OSError):
    """Reading or writing failed, or a format lacks what was asked."""


class LedgerError(BlockwiseError, OSError):
    """The ledger is broken, unreachable or of another version."""


class ModelError(BlockwiseError, ValueError):
    """A checkpoint, model folder or registry entry that cannot be used."""


class JobError(BlockwiseError, RuntimeError):
    """A job scheduler refused a job, or jobs end before their workers connect; in the scheduler's own words.

    away : it did not answer, which says nothing of the job; asked again later it may.
    """

    def __init__(self, text: str, *, away: bool = False) -> None:
        super().__init__(text)
        self.away = away


class DependencyError(BlockwiseError, ImportError):
    """An optional dependency is missing; names the extra that brings it."""


class BlockwiseWarning(UserWarning):
    """Base of every warning of ours."""
