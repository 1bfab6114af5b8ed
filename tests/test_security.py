"""Who may connect, what an open port is bound to, and that no secret and no pickle gets where it must not."""

import asyncio
import platform
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import dask
import psutil
import pytest
from distributed import LocalCluster
from distributed.core import connect
from distributed.security import Security

from blockwise.cluster import security
from blockwise.cluster.address import AddressWorkers
from blockwise.cluster.local import LocalWorkers
from blockwise.config import ClusterConfig
from blockwise.errors import ConfigError, StorageError

# Ports


@pytest.fixture(scope="module", params=[None, True], ids=["plain", "tls"])
def cluster(request) -> Iterator[LocalWorkers]:
    with LocalWorkers(ClusterConfig(workers=1, device="cpu", tls=request.param)) as running:
        yield running


def sockets() -> list[tuple[str, int]]:
    """Addresses that this process and its children listen on, TCP and UDP."""
    me = psutil.Process()
    found = [c for p in (me, *me.children(recursive=True)) for c in p.net_connections("inet")]
    return [(c.laddr.ip, c.laddr.port) for c in found if c.laddr and not c.raddr and c.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)]


def test_every_port_is_bound_to_this_machine(cluster):
    found = sockets()
    assert len(found) >= 5  # scheduler, its pages, nanny, worker, its pages
    assert not [at for at in found if not security.is_loopback(at[0])]


def greets(port: int, context: ssl.SSLContext) -> bool:
    """Whether whoever listens there says a word to a peer with this context, as Dask does to those it lets in."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=1) as plain,
            context.wrap_socket(plain, server_hostname="x") as tls,
        ):
            return bool(tls.recv(1))
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return False


def peer(known: Security | None) -> ssl.SSLContext:
    """A peer that trusts anybody, with the certificate of `known` or with none."""
    context = known.get_connection_args("client")["ssl_context"] if known else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize("cluster", [True], indirect=True, ids=["tls"])
@pytest.mark.parametrize("known", [None, security.temporary()], ids=["no certificate", "one of another run"])
def test_without_the_certificate_of_the_run_nobody_is_let_in(cluster, known):
    assert [port for _, port in sockets() if greets(port, peer(cluster.client.security))]
    assert not [port for _, port in sockets() if greets(port, peer(known))]


@pytest.mark.parametrize("cluster", [True], indirect=True, ids=["tls"])
def test_a_client_without_tls_is_not_let_in(cluster):
    with pytest.raises(OSError, match=r"(?i)timed out|closed|connect"):
        asyncio.run(connect(cluster.client.scheduler.address.replace("tls", "tcp"), timeout=3))


# Certificates that somebody gives


def test_certificates_lie_in_a_private_folder(tmp_path):
    folder = security.write_certificates(tmp_path / "tls")
    assert {f.name for f in folder.iterdir()} == set(security.FILES)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (folder, *folder.iterdir())] == [0o700, 0o600, 0o600, 0o600]


def test_a_folder_that_was_open_is_closed_and_a_link_is_refused(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    assert stat.S_IMODE(security.private_folder(tmp_path / "open").stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "open")
    with pytest.raises(StorageError, match="not a folder of this user"):
        security.private_folder(tmp_path / "link")


def test_a_key_that_others_can_read_is_refused(tmp_path):
    folder = security.write_certificates(tmp_path)
    (folder / "key.pem").chmod(0o640)
    with pytest.raises(ConfigError, match=r"others can read the key .*chmod 600"):
        security.from_folder(folder)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"lacks ca\.pem, cert\.pem, key\.pem"):
        security.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"address": "tcp://h:1", "tls": True}, "tls = true, but address = 'tcp://h:1'"),
        ({"address": "tls://h:1", "tls": False}, "tls = false, but address = 'tls://h:1'"),
        ({"address": "tls://h:1"}, "ca.pem, cert.pem, key.pem in \\$BLOCKWISE_TLS, or give Dask's settings distributed.comm.tls.ca-file"),
    ],
    ids=["tcp", "off", "none given"],
)
def test_an_address_that_cannot_be_trusted_is_refused(monkeypatch, cluster, message):
    monkeypatch.delenv(security.FOLDER_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=message):
        AddressWorkers(ClusterConfig(kind="address", device="cpu", **cluster))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """A scheduler with a worker that somebody started with TLS: its address, and the folder of its certificates."""
    folder = security.write_certificates(tmp_path_factory.mktemp("foreign") / "tls")
    known = security.from_folder(folder)
    how = {"host": "127.0.0.1", "dashboard_address": ":0", "worker_dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=1, processes=False, protocol="tls://", security=known, **how) as running:
        yield running.scheduler_address, folder


@pytest.mark.parametrize("way", ["folder", "settings"])
def test_a_foreign_scheduler_is_reached_with_given_certificates(monkeypatch, foreign, way):
    address, folder = foreign
    settings = {f"distributed.comm.tls.{key}": str(folder / file) for key, file in zip(security.DASK_KEYS, security.FILES, strict=True)}
    monkeypatch.setenv(security.FOLDER_VARIABLE, str(folder) if way == "folder" else "")
    with dask.config.set(settings if way == "settings" else {}):
        with AddressWorkers(ClusterConfig(kind="address", address=address, device="cpu")) as workers:
            assert workers.count() == 1


# Pages


@pytest.mark.parametrize(
    ("host", "loud"), [("127.0.0.1", False), ("127.0.0.7", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("node7", True)]
)
def test_pages_that_others_can_see_are_told(host, loud):
    assert bool(security.http_warning(ClusterConfig(http_host=host), "http://h:1/blockwise")) == loud
    assert security.http_warning(ClusterConfig(kind="address", address="tcp://h:1", http_host=host), "") == ""


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", platform.node()), ("::", platform.node()), ("::1", "[::1]"), ("n7", "n7")]
)
def test_the_address_of_a_page_can_be_opened(host, shown):
    assert security.shown_host(host) == shown
