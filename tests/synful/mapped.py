"""Small mapped tables of partners for the tests of rooms that work on them."""

import numpy as np
import pyarrow as pa

from tasks.synful.partners import table


def mapped(pre, post, score, *, ids=None, **identities):
    """A table whose ids count from 0 unless given; an identity is one for all rows or one per row, None for null."""
    n = len(score)
    columns = {
        k: pa.array([v] * n if np.ndim(v) == 0 else v, pa.int64() if k.startswith("skeleton") else pa.uint64())
        for k, v in identities.items()
    }
    return table(np.reshape(pre, (n, 3)), np.reshape(post, (n, 3)), score, np.arange(n) if ids is None else ids, more=columns)
