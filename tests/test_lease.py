"""Values between driver and worker: columns there and back, small enough for the scheduler to keep."""

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise.lease import PROGRESS_BYTES, Lease, Progress, Receipt

IDS = st.lists(st.integers(0, 10**12), max_size=40, unique=True).map(lambda v: np.array(sorted(v), np.int64))


def progress(started, done, lease=7):
    return Progress(lease, np.array(started, np.int64), np.array(done, np.int64), np.arange(len(done), dtype=np.uint32))


def same(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


@given(IDS, IDS, st.integers(0, 10**12))
def test_progress_comes_back_as_it_was_sent(started, done, lease):
    sent = Progress(lease, started, done, (done % 2**32).astype(np.uint32))
    assert same(Progress.decode(sent.encode()), sent)


@pytest.mark.parametrize("count", [600, 16_384])
def test_runs_of_ids_are_sent_whole_without_their_checksums(count):
    sent = progress(range(count), range(count))
    assert len(sent.encode()) < 100
    got = Progress.decode(sent.encode())
    assert (len(got.started), len(got.done), len(got.checksums)) == (count, count, 0)


@pytest.mark.parametrize("count", [0, 1, 2, 300, 5_000])
def test_no_part_is_longer_than_a_message_and_together_they_are_whole(count):
    parts = list(progress(range(0, 2 * count, 2), range(1, 2 * count, 2)).parts())
    assert max(len(p.encode()) for p in parts) <= PROGRESS_BYTES
    assert np.concatenate([p.started for p in parts]).tolist() == list(range(0, 2 * count, 2))
    assert np.concatenate([p.done for p in parts]).tolist() == list(range(1, 2 * count, 2))
    assert all(len(p.checksums) == len(p.done) for p in parts)


def test_a_receipt_travels_as_columns():
    n = 16_384
    seconds = [np.zeros(n, np.float32)] * 3
    receipt = Receipt(1, "w", np.arange(n), np.zeros(n, np.uint32), np.zeros(n, np.int64), *seconds, (), np.empty(0, np.int64), 1.0)
    assert len(pickle.dumps(receipt)) < 40 * n
    assert not any(isinstance(getattr(receipt, f.name), list) for f in dataclasses.fields(receipt))


def test_a_lease_of_a_page_is_small_and_frozen():
    lease = Lease(1, "s", np.arange(16_384))
    assert len(pickle.dumps(lease)) < 140_000
    with pytest.raises(dataclasses.FrozenInstanceError):
        lease.number = 2
