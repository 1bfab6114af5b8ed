"""How much memory a block may take, by where its workers are."""

import pytest

from blockwise.cluster import devices
from blockwise.config import BlocksConfig, ClusterConfig, RunConfig
from tasks.synful import auto


@pytest.mark.parametrize(
    ("cluster", "visible", "found"),
    [
        ({"device": "cpu"}, True, (3_000_000_000, "cpu")),
        ({}, False, (3_000_000_000, "cpu")),
        ({}, True, (8_000_000_000, "cuda")),
        ({"kind": "slurm", "gpus": 1}, False, (3_000_000_000, "cuda")),
        ({"kind": "slurm"}, True, (3_000_000_000, "cpu")),
    ],
)
def test_a_block_may_take_what_its_device_has_free(monkeypatch, cluster, visible, found):
    monkeypatch.setattr(devices, "sees_cuda", lambda: visible)
    monkeypatch.setattr(devices, "free_bytes", lambda device: 10_000_000_000)
    config = RunConfig(task="synful", blocks=BlocksConfig(memory="3GB"), cluster=ClusterConfig(**cluster))
    assert auto.device_memory(config) == found
