"""What only the MongoDB keeper has: several drivers at once, a server that dies, credentials, TLS."""

import datetime
import ipaddress
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymongo import MongoClient

from blockwise.errors import BlockwiseError, ConfigError, LedgerError
from blockwise.grid import PAGE_BLOCKS
from blockwise.ledger import Booking, Ledger, Marks, PageKey, open_ledger
from blockwise.ledger import mongodb as mongodb_module
from blockwise.ledger.contract import Attempt
from blockwise.ledger.server_url import PASSWORD_VARIABLE, USER_VARIABLE, parse_url
from blockwise.outage import is_away
from tests.services.mongodb import Server

KEY = PageKey("s", "d", 0)
WRITERS = 4
NOBODY = "127.0.0.1:1"


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Results of `work(0..WRITERS-1)`, one thread each, begun together."""
    ready = threading.Barrier(WRITERS)

    def begin(n: int) -> Any:
        ready.wait()
        return work(n)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(begin, range(WRITERS)))


@pytest.fixture
def ledgers(database: str) -> Iterator[list[Ledger]]:
    """One ledger of the same run for each of several drivers."""
    ledgers = [open_ledger(database, run="shared") for _ in range(WRITERS)]
    yield ledgers
    for ledger in ledgers:
        ledger.close()


def test_concurrent_writers_of_one_page_lose_nothing(ledgers: list[Ledger]):
    shuffled = np.random.default_rng(0).permutation(2_000)

    def write(n: int) -> None:
        for some in np.split(shuffled[n::WRITERS], 20):
            ledgers[n].commit(Booking((Marks(KEY, some, some.astype(np.uint32)),)))

    at_once(write)
    assert np.flatnonzero(ledgers[0].page(KEY)).tolist() == list(range(2_000))
    assert np.array_equal(ledgers[0].checksums(KEY)[:2_000], np.arange(2_000))


def test_concurrent_marking_and_unmarking_touch_their_own_bits_only(ledgers: list[Ledger]):
    ledgers[0].commit(Booking((Marks(KEY, np.arange(0, 320, 2)),)))

    def work(n: int) -> None:
        for even in range(2 * (n // 2), 320, 4):
            if n % 2:
                ledgers[n].commit(Booking((Marks(KEY, np.array([even + 1])),)))
            else:
                ledgers[n].unmark(Marks(KEY, np.array([even])))

    at_once(work)
    assert np.flatnonzero(ledgers[0].page(KEY)[:320]).tolist() == list(range(1, 320, 2))


def test_every_page_is_claimed_by_exactly_one(ledgers: list[Ledger]):
    pages = [PageKey("s", "d", p) for p in range(40)]
    claims = at_once(lambda n: [ledgers[n].claim(key, f"driver-{n}") for key in pages])
    assert [sum(holders) for holders in zip(*claims, strict=True)] == [1] * 40


def test_runs_of_one_database_are_kept_apart(database: str):
    first, second = (open_ledger(database, run=run) for run in ("run-1", "run-2"))
    first.commit(Booking((Marks(KEY, np.array([1])),), (), {"k": 1}))
    assert (second.count("s", "d"), second.get("k"), second.claim(KEY, "x"), first.claim(KEY, "y")) == (0, None, True, True)
    first.close()
    second.close()


def test_a_run_of_another_version_is_refused(database: str):
    open_ledger(database, run="old").close()
    with MongoClient(database) as client:
        client.get_default_database().runs.update_one({"_id": "old"}, {"$set": {"version": 99}})
    with pytest.raises(LedgerError, match=r"run old .* version 99, this blockwise writes version 1"):
        open_ledger(database, run="old")


def test_pages_dropped_behind_our_back_are_noticed(database: str):
    ledger = open_ledger(database, run="r")
    ledger.commit(Booking((Marks(KEY, np.array([1])),)))
    with MongoClient(database) as client:
        client.get_default_database().pages.delete_many({})
    with pytest.raises(LedgerError, match="1 of 1 pages of run r vanished"):
        ledger.commit(Booking((Marks(KEY, np.array([2])),)))
    ledger.close()


def test_a_killed_server_is_waited_for_and_nothing_acknowledged_is_lost(own_server: Server):
    ledger, acknowledged, enough = open_ledger(own_server.url, run="r"), [], threading.Event()

    def write() -> None:
        for n in range(PAGE_BLOCKS):
            if enough.is_set():
                return
            ledger.commit(Booking((Marks(KEY, np.array([n])),), (), {"last": n}))
            acknowledged.append(n)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        for kill in range(1, 4):
            while len(acknowledged) < 10 * kill and not writing.done():
                enough.wait(0.005)
            own_server.kill()
            before = len(acknowledged)
            own_server.start()
            while len(acknowledged) <= before + 1 and not writing.done():
                enough.wait(0.005)
        enough.set()
        writing.result()
    done = np.flatnonzero(ledger.page(KEY)).tolist()
    assert done[: len(acknowledged)] == acknowledged
    assert len(acknowledged) > 30
    ledger.close()


def test_a_server_that_stays_away_ends_the_patience(own_server: Server, caplog: pytest.LogCaptureFixture):
    ledger = open_ledger(own_server.url, run="r", patience_s=0.5)
    own_server.kill()
    with pytest.raises(LedgerError, match=r"nobody answered for \d\.\d s.*then resume \("):
        ledger.commit(Booking((Marks(KEY, np.array([1])),)))
    assert "does not answer, trying again for 0.5 s" in caplog.text
    ledger.close()
    own_server.start()


@pytest.mark.parametrize("words", ["nobody answered", r"--set ledger\.url=ledger\.sqlite"])
def test_nobody_at_the_start_names_the_way_out(words: str):
    with pytest.raises(LedgerError, match=words):
        open_ledger(f"mongodb://{NOBODY}/db", run="r", patience_s=0.2)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """User and password in the environment, and every log record caught."""
    monkeypatch.setenv(USER_VARIABLE, "eve")
    monkeypatch.setenv(PASSWORD_VARIABLE, "pw-7")
    caplog.set_level(logging.DEBUG)


def everything_said(error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    chain = [error, error.__cause__, error.__context__ if not error.__suppress_context__ else None]
    return " ".join([caplog.text, *(f"{e} {e!r} {vars(e)}" for e in chain if e is not None)])


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (f"mongodb://eve:pw-7@{NOBODY}/db", LedgerError),
        (f"mongodb://{NOBODY}/db", LedgerError),
        (f"mongodb://eve:pw-7@{NOBODY}/db?tls=perhaps", ConfigError),
        (f"mongodb://eve:pw-7@{NOBODY}/db?authMechanism=none", ConfigError),
        (f"mongodb://eve:pw-7%zz@{NOBODY}0000000/db", ConfigError),
        (f"mongodb://eve:pw-7@{NOBODY}/d$b", ConfigError),
    ],
)
@pytest.mark.usefixtures("login")
def test_no_error_shows_credentials(url: str, kind: type[BlockwiseError], caplog: pytest.LogCaptureFixture):
    with pytest.raises(kind) as caught:
        open_ledger(url, run="r", patience_s=0.2)
    said = everything_said(caught.value, caplog)
    assert "pw-7" not in said
    assert "eve" not in said


@pytest.mark.usefixtures("login")
def test_a_refused_login_names_the_variables(own_server: Server, caplog: pytest.LogCaptureFixture):
    with pytest.raises(
        LedgerError, match=r"refused the login: set \$BLOCKWISE_MONGODB_USER and \$BLOCKWISE_MONGODB_PASSWORD, or"
    ) as caught:
        open_ledger(own_server.url, run="r", patience_s=1)
    assert "pw-7" not in everything_said(caught.value, caplog)


@pytest.mark.usefixtures("login")
def test_an_accepted_login_is_shown_nowhere(own_server: Server, caplog: pytest.LogCaptureFixture):
    if own_server.program.name == "mongod":
        pytest.skip("mongod accepts no login before users are made; FerretDB accepts any PLAIN one")
    ledger = open_ledger(f"{own_server.url}/db?authMechanism=PLAIN", run="r")
    ledger.commit(Booking(values={"k": 1}))
    assert ledger.get("k") == 1
    assert "pw-7" not in f"{ledger!r} {ledger.url} {caplog.text} {vars(ledger)}"
    ledger.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ledger of the tests")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def test_tls_is_used_and_a_strange_certificate_refused(certificate: Path):
    server = Server(certificate)
    ledger = open_ledger(f"{server.url}/db?tls=true&tlsCAFile={certificate}", run="r")
    ledger.commit(Booking((Marks(KEY, np.array([3])),)))
    assert ledger.count("s", "d") == 1
    ledger.close()
    for url in (f"{server.url}/db?tls=true", f"{server.url}/db"):
        with pytest.raises(LedgerError, match="nobody answered"):
            open_ledger(url, run="r", patience_s=0.5)
    server.stop()


def test_a_client_shows_the_certificate_that_its_url_names(certificate: Path):
    """A self-signed certificate signs itself, so that one file serves as server's, client's and authority."""
    server = Server(certificate, authority=certificate)
    known = f"{server.url}/db?tls=true&tlsCAFile={certificate}"
    ledger = open_ledger(f"{known}&tlsCertificateKeyFile={certificate}", run="r")
    ledger.commit(Booking((Marks(KEY, np.array([3])),)))
    assert ledger.count("s", "d") == 1
    ledger.close()
    with pytest.raises(LedgerError, match="nobody answered"):
        open_ledger(known, run="r", patience_s=0.5)
    server.stop()


# --- what a real MongoDB gets, and FerretDB ignores


def test_what_makes_a_replica_set_safe_is_asked_for_whatever_the_url_says():
    url = "mongodb://127.0.0.1:1,127.0.0.1:2/db?replicaSet=rs&readPreference=secondary&w=1&journal=false&readConcernLevel=local"
    with mongodb_module._client(parse_url(url), 0.1) as client:
        assert client.write_concern.document == {"w": "majority", "j": True}
        assert client.read_concern.level == "majority"
        assert client.read_preference.name == "Primary"
        assert client.options.pool_options.appname == "blockwise"
        assert client.topology_description.replica_set_name == "rs"
        assert sorted(client.topology_description.server_descriptions()) == [("127.0.0.1", 1), ("127.0.0.1", 2)]


def test_places_and_attempts_are_unique(database: str):
    from pymongo.errors import DuplicateKeyError

    ledger = open_ledger(database, run="r")
    ledger.commit(Booking((Marks(KEY, np.array([1])),), (Attempt("s", "d", 1, 1, "poison", "w", "", "", 0.0),)))
    with MongoClient(database) as client:
        for name in ("pages", "attempts"):
            collection = client.get_default_database()[name]
            with pytest.raises(DuplicateKeyError):
                collection.insert_one({**collection.find_one(), "_id": "another"})
    ledger.close()


def test_ten_to_the_eighth_blocks_are_six_thousand_documents(database: str):
    import bson

    ledger = open_ledger(database, run="r")
    ledger.commit(Booking((Marks(KEY, np.arange(PAGE_BLOCKS)),)))
    with MongoClient(database) as client:
        document = client.get_default_database().pages.find_one()
    pages = -(-(10**8) // PAGE_BLOCKS)
    assert pages == 6_104
    assert pages * len(bson.encode(document)) < 45e6
    ledger.close()


# --- a server that is away


def test_whoever_watches_is_told_of_every_try_and_of_the_end(own_server: Server):
    ledger, told = open_ledger(own_server.url, run="r", patience_s=60), []

    def watch(waited_s: float, why: str) -> None:
        told.append(why)
        if len(told) == 2:
            own_server.start()

    ledger.waiting = watch
    own_server.kill()
    ledger.commit(Booking((Marks(KEY, np.array([1])),)))
    assert told[-1] == ""
    assert all("127.0.0.1" in why for why in told[:-1])
    assert ledger.count("s", "d") == 1
    ledger.close()


def test_who_gave_up_waiting_is_not_kept_waiting_again(own_server: Server):
    ledger = open_ledger(own_server.url, run="r", patience_s=600)

    def stop(waited_s: float, why: str) -> None:
        raise LedgerError("stopped")

    ledger.waiting = stop
    own_server.kill()
    with pytest.raises(LedgerError, match="stopped"):
        ledger.get("k")
    with pytest.raises(LedgerError, match="nobody answered") as caught:
        ledger.get("k")
    assert is_away(caught.value)
    own_server.start()
    ledger.waiting = lambda waited_s, why: None
    assert ledger.get("k") is None
    ledger.close()
