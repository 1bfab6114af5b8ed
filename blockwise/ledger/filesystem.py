"""Which file system a path lies on, for SQLite's write-ahead log needs memory shared by all who open the file: one machine only."""

from collections.abc import Sequence
from pathlib import Path

NETWORK_TYPES: frozenset[str] = frozenset(
    {
        "9p",
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "webdav",
        "wekafs",
    }
)
"""File systems that other machines may have mounted too, by the name the kernel gives them."""

Mounts = Sequence[tuple[str, str]]
"""(mount point, file system type) of everything mounted, in the order mounted."""


def mounts() -> Mounts:
    """What is mounted now."""
    import psutil

    return [(p.mountpoint, p.fstype) for p in psutil.disk_partitions(all=True)]


def filesystem_type(path: str | Path, mounted: Mounts) -> str:
    """Type of the file system that holds `path` (which need not exist), "" where none of `mounted` does.

    Of two mounts at one place the later hides the earlier.
    """
    place = Path(path).resolve()
    holding = [(len(Path(point).parts), n, kind) for n, (point, kind) in enumerate(mounted) if place.is_relative_to(point)]
    return max(holding)[2] if holding else ""


def on_network(path: str | Path, mounted: Mounts | None = None) -> bool:
    """Whether another machine may have `path` mounted too. FUSE counts as network: sshfs, GCS and the like come through it."""
    kind = filesystem_type(path, mounts() if mounted is None else mounted).lower()
    return kind in NETWORK_TYPES or kind.split(".")[0] == "fuse"
