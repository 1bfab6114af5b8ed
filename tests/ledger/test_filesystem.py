import pytest

from blockwise.ledger.filesystem import filesystem_type, mounts, on_network

MOUNTED = [
    ("/", "ext4"),
    ("/home", "nfs4"),
    ("/home/local", "xfs"),
    ("/scratch", "lustre"),
    ("/mnt/ssh", "fuse.sshfs"),
    ("/mnt/win", "CIFS"),
    ("/over", "ext4"),
    ("/over", "gpfs"),
]


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/data/run/ledger.sqlite", "ext4", False),
        ("/home/a/run", "nfs4", True),
        ("/home/local/run", "xfs", False),
        ("/homework/run", "ext4", False),
        ("/scratch", "lustre", True),
        ("/mnt/ssh/deep/er", "fuse.sshfs", True),
        ("/mnt/win/run", "CIFS", True),
        ("/over/run", "gpfs", True),
    ],
)
def test_the_innermost_latest_mount_decides(path: str, kind: str, network: bool):
    assert filesystem_type(path, MOUNTED) == kind
    assert on_network(path, MOUNTED) is network


def test_what_is_mounted_here_holds_the_current_folder():
    assert filesystem_type(".", mounts())


def test_nothing_mounted_counts_as_local():
    assert on_network("/anything", []) is False
