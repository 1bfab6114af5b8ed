from pathlib import Path

import pytest

from blockwise.errors import ConfigError
from blockwise.ledger import open_ledger
from blockwise.ledger.sqlite import SqliteLedger


def test_a_path_is_kept_in_sqlite(tmp_path: Path):
    ledger = open_ledger(str(tmp_path / "l.sqlite"), run="ignored")
    assert isinstance(ledger, SqliteLedger)
    assert (ledger.url, ledger.shared) == (str(tmp_path / "l.sqlite"), False)


@pytest.mark.parametrize(
    ("url", "run", "says"),
    [
        ("mongodb://127.0.0.1:1/db", "", "give the run id"),
        ("mongodb://127.0.0.1:99999/db", "r", "Port must be"),
        ("mongodb://127.0.0.1:1/d b", "r", "d b"),
        ("mongodb://127.0.0.1:1/db?tls=perhaps", "r", "perhaps"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, run: str, says: str):
    with pytest.raises(ConfigError, match=says):
        open_ledger(url, run)
