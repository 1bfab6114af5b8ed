"""Who may connect, what an open port is bound to, and that no secret and no pickle gets where it must not."""

import ast
import asyncio
import json
import platform
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
from distributed import LocalCluster
from distributed.core import connect

from blockwise.cluster import security
from blockwise.cluster.address import AddressWorkers
from blockwise.cluster.local import LocalWorkers
from blockwise.config import ClusterConfig
from blockwise.errors import ConfigError, InputError, StorageError
from blockwise.folder import RunFolder
from blockwise.monitor.page import page_values
from blockwise.storage import open_source
from tests.leaky_run import INPUT, LEDGER, SECRETS, finds
from tests.listening import greets, listening, shows_pages
from tests.monitor.test_page_in_browser import running
from tests.services.mongodb import Server

ROOT = Path(__file__).resolve().parents[1]

# Ports


@pytest.fixture(scope="module", params=[None, True], ids=["plain", "tls"])
def cluster(request) -> Iterator[LocalWorkers]:
    with LocalWorkers(ClusterConfig(workers=1, device="cpu", tls=request.param)) as running:
        yield running


def test_every_port_is_bound_to_this_machine(cluster):
    found = listening()
    assert len(found) >= 5  # scheduler, its pages, nanny, worker, its pages
    assert not [at for at in found if not security.is_loopback(at[0])]


def test_every_port_of_a_run_is_bound_to_this_machine(tmp_path):
    with running(tmp_path) as run:
        found = listening(psutil.Process(run.process.pid))
        assert len(found) >= 8  # of two workers
        assert not [at for at in found if not security.is_loopback(at[0])]
        assert [at for at in found if shows_pages(at)]


@pytest.mark.parametrize("cluster", [True], indirect=True, ids=["tls"])
@pytest.mark.parametrize("known", [None, security.temporary()], ids=["no certificate", "one of another run"])
def test_without_the_certificate_of_the_run_nobody_is_let_in(cluster, known):
    assert [at for at in listening() if greets(at, cluster.client.security)]
    assert not [at for at in listening() if greets(at, known)]


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
    how = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
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


def test_only_the_page_is_bound_where_it_is_asked_for():
    with LocalWorkers(ClusterConfig(workers=1, device="cpu", http_host="0.0.0.0")) as workers:
        (at,) = [at for at in listening() if not security.is_loopback(at[0])]
        assert workers.page == f"http://{platform.node()}:{at[1]}/blockwise"
        assert shows_pages(("127.0.0.1", at[1]))


def test_a_run_says_that_others_can_see_its_page(leaked):
    (said,) = [json.loads(line) for line in leaked[1].stderr.splitlines() if "http_host" in line]
    assert (said["event"], said["level"]) == ("message", "warning")
    assert "[cluster] http_host = '0.0.0.0': whoever reaches this machine can read the live page" in said["text"]


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", platform.node()), ("::", platform.node()), ("::1", "[::1]"), ("n7", "n7")]
)
def test_the_address_of_a_page_can_be_opened(host, shown):
    assert security.shown_host(host) == shown


# Secrets


def leak(folder: Path, *keys: str) -> subprocess.CompletedProcess[str]:
    """A run full of secrets, worked off; with a secret on its command line too."""
    command = [sys.executable, "-m", "tests.leaky_run", str(folder), *keys, f"input.path={INPUT}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


@pytest.fixture(scope="module")
def leaked(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("leaky")
    return folder, leak(folder, "cluster.workers=1", 'cluster.device="cpu"', 'cluster.http_host="0.0.0.0"')


def test_no_secret_is_in_the_run_folder_or_the_output(leaked):
    folder, done = leaked
    assert done.returncode == 1  # three blocks failed
    assert (folder / "run" / "logs").is_dir()
    assert not finds(folder)


def test_no_secret_is_in_what_a_run_says(leaked):
    said = leaked[1].stdout + leaked[1].stderr
    assert said.count('"block_failed"') == 6
    assert not [secret for secret in SECRETS if secret in said]


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ("run.log", "cannot open https://***@data.lab/em.zarr: 403 for https://bucket.cloud/mask.zarr?X-Amz-Credential=***"),
        ("status.json", "cannot open https://***@data.lab/em.zarr"),
        ("config.toml", '"https://***@data.lab/em.zarr"'),
        ("provenance.jsonl", "input.path=https://***@data.lab/em.zarr"),
    ],
)
def test_what_is_no_secret_is_kept(leaked, file, kept):
    assert kept in (leaked[0] / "run" / file).read_text()


def test_no_secret_is_in_a_ledger_on_a_server(tmp_path):
    server = Server()
    try:
        url = f"mongodb://anna:{LEDGER}@{server.address}/db?authMechanism=PLAIN"
        folder = tmp_path / "run folder"
        folder.mkdir()
        done = leak(folder, "cluster.workers=1", 'cluster.device="cpu"', f"ledger.url={url}")
        assert done.returncode == 1, done.stderr
        assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
        server.kill()
        assert not finds(folder)
        assert not finds(server.folder)
    finally:
        server.stop()


def test_the_page_shows_no_secret(leaked):
    text = str(page_values(RunFolder(leaked[0] / "run").read_status()))
    assert "cannot open https://***@data.lab" in text
    assert not [secret for secret in SECRETS if secret in text]


# Pickles

READERS = {
    "pickle": {"load", "loads", "Unpickler"},
    "cloudpickle": {"load", "loads"},
    "joblib": {"load"},
    "dill": {"load", "loads"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "yaml": {"load", "load_all", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all", "Loader", "UnsafeLoader", "FullLoader"},
    "pandas": {"read_pickle"},
    "pd": {"read_pickle"},
}
"""Functions that run what a file says."""

ALLOWED = {
    (
        "blockwise/worker.py",
        "cloudpickle.loads",
    ): "the task, from the driver, over its connection",
    ("tasks/spikes/suite2p.py", "pickle.Unpickler"): "its find_class refuses all but arrays and plain types",
}


def calls(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Dotted name and node of everything called, imported or inherited from in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}", node
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{a.name}", node) for a in node.names)


def sources() -> list[Path]:
    return [p for room in ("blockwise", "tasks", "benchmarks") for p in sorted((ROOT / room).rglob("*.py"))]


def test_nothing_is_unpickled_from_a_file():
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in sources()
        for name, _ in calls(path)
        if name.rpartition(".")[2] in READERS.get(name.rpartition(".")[0], ())
    }
    assert found == set(ALLOWED)


def keyword(call: ast.Call, name: str) -> object:
    """The literal given for a keyword; None where it is not given."""
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


@pytest.mark.parametrize(
    ("function", "name", "allowed"),
    [
        ("torch.load", "weights_only", {True}),
        ("np.load", "allow_pickle", {None, False}),  # False is numpy's default
        ("numpy.load", "allow_pickle", {None, False}),
        ("np.fromfile", "allow_pickle", {None}),
        ("subprocess.run", "shell", {None, False}),
        ("subprocess.Popen", "shell", {None, False}),
    ],
)
def test_readers_are_told_to_run_nothing(function, name, allowed):
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function and keyword(node, name) not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("builtin", ["eval", "exec", "compile", "__import__"])
def test_no_text_is_run(builtin):
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == builtin
    ]
    assert not found


def test_a_pickled_array_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InputError):
        open_source(tmp_path / "a.npy")
