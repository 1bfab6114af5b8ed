import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from blockwise.errors import ConfigError, InputError
from tasks.synful.splitting import split_component

SIZE = (40, 4, 4)


def ridge(*heights):
    """A component one voxel wide along x."""
    heights = np.array(heights, float)[None, None]
    return heights, heights > 0


@pytest.mark.parametrize(
    ("heights", "options", "labels"),
    [
        ((3, 9, 4, 8, 2), {}, [1, 1, 1, 2, 2]),  # the saddle goes to the higher peak
        ((3, 8, 4, 9, 2), {}, [1, 1, 2, 2, 2]),
        ((3, 9, 4, 8, 2), {"prominence": 4}, [1, 1, 1, 2, 2]),
        ((3, 9, 4, 8, 2), {"prominence": 4.5}, [1] * 5),
        ((3, 9, 4, 8, 2), {"min_distance_nm": 8}, [1, 1, 1, 2, 2]),
        ((3, 9, 4, 8, 2), {"min_distance_nm": 8.5}, [1] * 5),
        ((5, 5, 5, 5), {}, [1] * 4),  # a plateau
        ((9, 1, 0, 9), {}, [1, 1, 0, 2]),
        ((7, 5, 9, 1, 8), {"prominence": 3}, [1, 1, 1, 1, 2]),  # a shoulder joins, the next hill does not
        ((8, 1, 6, 5, 9), {"prominence": 3}, [1, 2, 2, 2, 2]),
    ],
)
def test_hills_of_a_ridge(heights, options, labels):
    settings = {"min_distance_nm": 0, "prominence": 0.5} | options
    assert split_component(*ridge(*heights), SIZE, **settings)[0, 0].tolist() == labels


def blobs(*centres):
    """Round soft blobs of a radius of 60 nm."""
    grid = np.stack(np.indices((9, 60, 60)), axis=-1) * SIZE
    return np.max([np.exp(-((grid - c) ** 2).sum(axis=-1) / 2 / 60**2) for c in centres], axis=0)


def test_two_merged_blobs_are_parted_in_the_middle():
    probability = blobs((160, 120, 60), (160, 120, 180))
    members = probability > 0.3
    assert ndimage.label(members)[1] == 1
    labels = split_component(probability, members, SIZE, min_distance_nm=60, prominence=0.1)
    assert np.array_equal(labels > 0, members)
    assert labels.max() == 2
    assert (labels[..., :30][members[..., :30]] == 1).all()
    assert (labels[..., 31:][members[..., 31:]] == 2).all()


@pytest.mark.parametrize("kind", ["u1", "f4", "f8"])
def test_a_block_of_many_components_at_once(kind):
    probability = (255 * blobs((160, 60, 60), (160, 60, 160), (160, 200, 60))).astype(kind)
    members = probability > 140
    every = ndimage.label(members)[0]
    options = {"min_distance_nm": 0, "prominence": 12}
    singly = sum(split_component(probability, every == c, SIZE, **options).max() for c in range(1, every.max() + 1))
    together = split_component(probability, members, SIZE, **options)
    assert together.max() == singly == 3
    assert all(len(np.unique(every[together == hill])) == 1 for hill in (1, 2, 3))


def test_distance_counts_in_nm():
    probability = blobs((80, 120, 120), (240, 120, 120))  # 160 nm, 4 sections apart
    members = probability > 0.2
    counts = [split_component(probability, members, SIZE, min_distance_nm=d, prominence=0.05).max() for d in (159, 161)]
    assert counts == [2, 1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 0.6]), st.sampled_from([0.0, 20.0, 90.0]))
def test_random_components(seed, prominence, distance):
    rng = np.random.default_rng(seed)
    probability = np.round(ndimage.gaussian_filter(rng.random((6, 20, 20)), (0.5, 2, 2)) * 8, 2)
    every = ndimage.label(probability > np.median(probability))[0]
    members = every == np.bincount(every.ravel())[1:].argmax() + 1
    labels = split_component(probability, members, SIZE, min_distance_nm=distance, prominence=prominence)
    assert np.array_equal(labels > 0, members)
    peaks = []
    for hill in range(1, labels.max() + 1):
        assert ndimage.label(labels == hill)[1] == 1
        peaks.append(np.flatnonzero((labels == hill) & (probability == probability[labels == hill].max()))[0])
    firsts = [np.flatnonzero(labels == hill)[0] for hill in range(1, labels.max() + 1)]
    assert firsts == sorted(firsts)
    if distance == 0 and len(peaks) > 1:
        lower = sorted(probability.ravel()[peaks])[:-1]
        deep = [
            p - saddle(probability, members, peak)
            for p, peak in zip(lower, sorted(peaks, key=lambda i: probability.ravel()[i]), strict=False)
        ]
        assert min(deep) >= prominence - 1e-9


def saddle(probability, members, peak):
    """The highest level at which a peak is connected with something higher, by search."""
    top = probability.ravel()[peak]
    for level in np.unique(probability[members])[::-1]:
        part = ndimage.label(members & (probability >= level))[0]
        own = part.ravel()[peak]
        if own and probability[part == own].max() > top:
            return level
    return -np.inf


def test_refusals():
    probability, members = ridge(1, 2)
    with pytest.raises(InputError, match=r"\(1, 1, 2\) and members \(1, 1, 1\)"):
        split_component(probability, members[..., :1], SIZE, min_distance_nm=0, prominence=0)
    with pytest.raises(ConfigError, match="prominence = -1"):
        split_component(probability, members, SIZE, min_distance_nm=0, prominence=-1)
