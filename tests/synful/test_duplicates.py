import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.errors import ConfigError, InputError
from tasks.synful.duplicates import cluster_duplicates, duplicate_labels, duplicate_mask
from tasks.synful.partners import table
from tests.synful.mapped import mapped


def line(posts, scores, *, pre=1, post=2):
    """Rows along x, all of one pair of segments unless told otherwise."""
    sites = np.array([[0, 0, x] for x in posts])
    return mapped(sites + 1000, sites, scores, segment_pre=pre, segment_post=post)


@pytest.mark.parametrize(
    ("posts", "scores", "kept"),
    [
        ([0, 100, 200], [1, 3, 2], [1]),  # a chain
        ([0, 100, 201], [1, 3, 2], [1, 2]),  # 101 nm apart
        ([0, 0, 500], [1, 2, 1], [1, 2]),  # one place
        ([0, 50, 80], [2, 2, 2], [0]),  # a tie goes to the smallest id
        ([0, 50, 80], [np.nan, 1, 1], [1]),
        ([], [], []),
    ],
)
def test_one_row_per_cluster(posts, scores, kept):
    assert np.flatnonzero(duplicate_mask(line(posts, scores), 100)).tolist() == kept


def test_the_distance_counts_within_a_pair_only():
    partners = line([0, 1, 2, 3], [4, 3, 2, 1], pre=[1, 1, 2, None], post=[2, 1, 1, 2])
    assert duplicate_mask(partners, 100).all()


def test_ignored_identities_stay():
    partners = line([0, 1, 2, 3], [4, 3, 2, 1], pre=[0, 0, 7, 7])
    assert duplicate_mask(partners, 100, ignore_ids=(0, -2)).tolist() == [True, True, True, False]


def test_mean_moves_the_row_of_the_smallest_id():
    partners = mapped([[0, 0, 0], [3, 0, 0]], [[9, 9, 9], [10, 10, 12]], [1, 5], segment_pre=1, segment_post=2)
    (row,) = cluster_duplicates(partners, 10, keep="mean").to_pylist()
    assert row["id"] == 0
    assert [row[f"{e}_{a}"] for e in ("pre", "post") for a in "zyx"] == [2, 0, 0, 10, 10, 10]
    assert row["score"] == 1


def test_the_pre_site_may_count():
    partners = mapped([[0, 0, 0], [0, 0, 9]], [[0, 0, 0], [900, 0, 0]], [1, 2], segment_pre=1, segment_post=2)
    assert duplicate_mask(partners, 10, site="pre").tolist() == [False, True]
    assert duplicate_mask(partners, 10).all()


def test_another_distance():
    partners = line([0, 10, 20, 5000], [4, 3, 2, 1], pre=[1, 1, 1, 3])
    far = duplicate_labels(partners, 10, distance=lambda a, b: np.where((a == 0) & (b == 2), 0.0, 99.0))
    assert far.tolist() == [0, 1, 0, 3]


def brute(partners, distance):
    """Labels by repeated sweeps over all pairs."""
    rows = partners.to_pylist()
    labels = list(range(len(rows)))
    for _ in rows:
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                near = sum((a[f"post_{c}"] - b[f"post_{c}"]) ** 2 for c in "zyx") <= distance**2
                if near and (a["segment_pre"], a["segment_post"]) == (b["segment_pre"], b["segment_post"]):
                    labels[i] = labels[j] = min(labels[i], labels[j])
    return labels


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0, 3, 12, 60]))
def test_labels_of_random_sites(seed, n, distance):
    rng = np.random.default_rng(seed)
    sites = rng.integers(-40, 40, (n, 3))
    partners = mapped(sites, sites, rng.random(n), segment_pre=rng.integers(1, 3, n), segment_post=1)
    assert duplicate_labels(partners, distance).tolist() == brute(partners, distance)


def test_cells_of_large_groups_find_what_all_pairs_find():
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    sites = np.r_[rng.integers(-3000, 3000, (3000, 3)), rng.integers(0, 9, (200, 3)) * 100 + [10**8, 0, -(10**8)]]
    labels = duplicate_labels(mapped(sites, sites, rng.random(3200), segment_pre=1, segment_post=1), 200)
    pairs = cKDTree(sites).query_pairs(200, output_type="ndarray")
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()
    import scipy.sparse as sp

    count, _ = sp.csgraph.connected_components(sp.coo_array((np.ones(len(pairs)), pairs.T), shape=(3200, 3200)), directed=False)
    assert len(np.unique(labels)) == count


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    sites, n = rng.integers(0, 30, (40, 3)), 40
    partners = mapped(sites, sites, rng.integers(0, 3, n), segment_pre=rng.integers(1, 3, n), segment_post=1)
    shuffled = partners.take(pa.array(rng.permutation(n)))
    for keep in ("max_score", "mean"):
        one, other = (cluster_duplicates(t, 8, keep=keep).sort_by("id") for t in (partners, shuffled))
        assert one.equals(other)


def test_refusals():
    partners = line([0], [1])
    with pytest.raises(ConfigError, match="keep = 'best'"):
        cluster_duplicates(partners, 1, keep="best")
    with pytest.raises(ConfigError, match="distance_nm = -1"):
        cluster_duplicates(partners, -1)
    with pytest.raises(InputError, match="body_pre, body_post"):
        cluster_duplicates(partners, 1, by="body")
    with pytest.raises(InputError, match="segment_pre holds double"):
        cluster_duplicates(table([[0] * 3], [[0] * 3], [1], [1], more={"segment_pre": [1.5], "segment_post": [1.5]}), 1)
