"""Who listens where, and whom they let in."""

import socket
import ssl
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from distributed.security import Security

At = tuple[str, int]


def listening(process: psutil.Process | None = None) -> list[At]:
    """Addresses that a process (this one) and its children listen on, TCP and UDP; but for a SLURM that other tests have started."""
    process = process or psutil.Process()
    ours = [one for one in process.children(recursive=True) if not one.name().startswith(("slurm", "munge"))]
    return [at for one in (process, *ours) for at in listening_alone(one)]


def listening_alone(process: psutil.Process) -> list[At]:
    """Addresses that a process listens on, without its children."""
    found = process.net_connections("inet")
    return [(c.laddr.ip, c.laddr.port) for c in found if c.laddr and not c.raddr and c.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)]


def greets(at: At, known: "Security | None") -> bool:
    """Whether whoever listens there says a word, as Dask does to those it lets in, to a peer that trusts anybody.

    known : whose certificate the peer shows; None for none.
    """
    context = known.get_connection_args("client")["ssl_context"] if known else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(at, timeout=1) as plain, context.wrap_socket(plain, server_hostname="x") as tls:
            return bool(tls.recv(1))
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return False


def shows_pages(at: At) -> bool:
    """Whether a web server listens there."""
    try:
        with socket.create_connection(at, timeout=1) as plain:
            plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            return plain.recv(5) == b"HTTP/"
    except (ConnectionError, TimeoutError):
        return False
