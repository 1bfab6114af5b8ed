"""What each worker of a job is started with."""

import pytest

from blockwise.cluster.node import DEVICES, environments, own_address
from blockwise.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "count", "ids"),
    [
        ("0,1", 2, ["0", "1"]),
        ("3", 1, ["3"]),
        ("2, 5,7", 2, ["2", "5"]),
        ("GPU-1a2b,MIG-3c4d", 2, ["GPU-1a2b", "MIG-3c4d"]),
    ],
)
def test_each_worker_sees_one_device(given: str, count: int, ids: list[str]):
    assert [e[DEVICES] for e in environments({DEVICES: given, "A": "b"}, count)] == ids
    assert all(e["A"] == "b" for e in environments({DEVICES: given, "A": "b"}, count))


def test_without_devices_nothing_is_set():
    assert environments({"A": "b"}, 2) == [{"A": "b"}] * 2


def test_fewer_devices_than_workers_are_refused():
    with pytest.raises(ConfigError, match="3 workers of this job need a GPU each, and SLURM gave it 2"):
        environments({DEVICES: "0,1"}, 3)


def test_a_worker_listens_on_the_way_to_its_scheduler():
    assert own_address("tls://127.0.0.1:8786") == "127.0.0.1"
