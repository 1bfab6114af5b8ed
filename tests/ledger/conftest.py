"""Ledgers of both keepers for the tests: opened, opened again, and closed at the end."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from weakref import WeakSet

import pytest

from blockwise.ledger import Ledger, open_ledger
from tests.services.mongodb import Server

Reopen = Callable[[], Ledger]


@pytest.fixture(scope="session")
def mongodb() -> Iterator[str]:
    """Url of a server: $BLOCKWISE_TEST_MONGODB or one of our own."""
    given = os.environ.get("BLOCKWISE_TEST_MONGODB")
    if given:
        yield given
        return
    server = Server()
    yield server.url
    server.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that a test may kill."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def database(mongodb: str) -> Iterator[str]:
    """Url of a database that only this test uses."""
    from pymongo import MongoClient

    name = f"blockwise_test_{uuid.uuid4().hex[:12]}"
    yield urlsplit(mongodb)._replace(path=f"/{name}").geturl()
    with MongoClient(mongodb) as client:
        client.drop_database(name)


@pytest.fixture(params=["sqlite", "mongodb"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Opens this test's ledger, as often as called, as a new driver would; those dropped unclosed stay so, as after a crash."""
    place = tmp_path / "ledger.sqlite" if request.param == "sqlite" else request.getfixturevalue("database")
    opened: WeakSet[Ledger] = WeakSet()

    def open_one() -> Ledger:
        ledger = open_ledger(place, run="run-1", patience_s=60)
        opened.add(ledger)
        return ledger

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(reopen: Reopen) -> Ledger:
    return reopen()
