"""Less at a time where the memory of a device does not hold all, with the same result; and transfers that change nothing."""

import numpy as np
import pytest
import torch

from tasks import synful
from tasks.cascade.engines import FRAMES, frames_at_once, load_ensemble, stream
from tasks.torch_device import Limit, download, streamed, upload
from tests.cascade.random_model import random_weights
from tests.synful.small import noise, random_network


def full_above(most, error):
    """A device that holds so much, and what was asked of it."""
    asked = []

    def compute(amount):
        asked.append(amount)
        if amount > most:
            raise error
        return amount

    return compute, asked


OUT = [torch.cuda.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()]


@pytest.mark.parametrize("error", OUT, ids=lambda e: type(e).__name__)
def test_what_does_not_fit_is_halved_and_stays_so(error):
    compute, asked = full_above(30, error)
    limit = Limit()
    assert [limit.fit(100, compute), limit.fit(100, compute), limit.fit(10, compute)] == [25, 25, 10]
    assert asked == [100, 50, 25, 25, 10]


@pytest.mark.parametrize(("error", "least", "asked"), [(MemoryError(), 40, [100, 50, 40]), (ValueError("shape"), 1, [100])])
def test_what_less_does_not_mend_is_raised(error, least, asked):
    compute, found = full_above(0, error)
    with pytest.raises(type(error)):
        Limit().fit(100, compute, least=least)
    assert found == asked


def test_arrays_come_back_as_they_went():
    array = noise((3, 4, 5))[:, ::2]
    x = upload(array, "cpu")
    assert [np.array_equal(found, wanted) for found, wanted in zip(download(x, 2 * x), (array, 2 * array), strict=True)] == [True, True]


def test_a_stream_keeps_its_order_and_takes_one_at_a_time():
    taken = []

    def arrays():
        for i in range(5):
            taken.append(i)
            yield np.full(3, i, np.float32)

    found = streamed(arrays(), lambda x: x + 1, "cpu")
    assert next(found).tolist() == [1, 1, 1]
    assert taken == [0]
    assert [a[0] for a in found] == [2, 3, 4, 5]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: transfers through pinned memory are not tried")
def test_a_gpu_gives_the_same_stream():
    arrays = [noise((4, 64, 1000)) + i for i in range(6)]
    found = list(streamed(arrays, lambda x: x * 2, "cuda"))
    assert all(np.array_equal(f, 2 * a) for f, a in zip(found, arrays, strict=True))


# --- Cascade


def small(limit_frames, monkeypatch):
    """Lets the network of Cascade hold so many frames; how many it was given."""
    from tasks.cascade import network

    whole, given = network.dense_rates, []

    def dense_rates(x, weights):
        given.append(len(x))
        if len(x) > limit_frames:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return whole(x, weights)

    monkeypatch.setattr(network, "dense_rates", dense_rates)
    return given


@pytest.mark.parametrize("window", [64, 76])
def test_cascade_infers_the_same_with_less_at_a_time(monkeypatch, window):
    members = [random_weights(seed, window=window) for seed in range(2)]
    traces = [np.random.default_rng(n).normal(0, 0.2, n).astype(np.float32) for n in (1500, 400, window)]
    wanted = [load_ensemble(members, "torch", "cpu")(trace) for trace in traces]
    given, ensemble = small(500, monkeypatch), load_ensemble(members, "torch", "cpu")
    for found, right in zip(stream(ensemble, traces), wanted, strict=True):
        np.testing.assert_allclose(found, right, atol=2e-6)
    assert [n for n in given if n > 500] == [1500, 750]


def test_cascade_takes_a_cpus_share_on_a_cpu():
    assert frames_at_once("torch", "cpu") == frames_at_once("tensorflow", "cuda") == FRAMES[0]


@pytest.mark.parametrize(("free", "frames"), [(0, FRAMES[0]), (2 << 30, 1 << 17), (80 << 30, FRAMES[1])])
def test_cascade_takes_what_is_free_on_a_gpu(monkeypatch, free, frames):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 << 30))
    assert frames_at_once("torch", "cuda") == frames


# --- Synful


def test_synful_predicts_the_same_with_less_at_a_time(tmp_path, monkeypatch):
    network = random_network(tmp_path / "net.safetensors")
    raw = ((noise((14, 66, 70)) + 1) / 2 * 255).astype(np.uint8)
    whole, given, most = type(network).forward, [], []

    def forward(self, x):
        given.append(x.numel())
        if most and x.numel() > most[0]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return whole(self, x)

    monkeypatch.setattr(type(network), "forward", forward)
    wanted = synful.predict(raw, network)
    (all_at_once,) = given
    most.append(0.8 * all_at_once)
    found = synful.predict(raw, network)
    assert max(given[2:]) < all_at_once
    np.testing.assert_allclose(found[0], wanted[0], atol=2e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=5e-4)
