"""Who may talk to a scheduler, and where ports listen.

Whoever can connect to a Dask scheduler can run code as the user who started it. Guaranteed: with TLS a connection needs a key that only
this user can read, on either side; certificates made here live in memory or in files of mode 0600 in a folder of mode 0700; a port that
shows pages is bound to this machine alone unless `[cluster] http_host` says otherwise, and then an event says so.
A crash leaves nothing of what lives in memory; whoever wrote certificates into a folder removes them (`blockwise clean` for SLURM).
"""

import ipaddress
import os
import platform
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from blockwise.config import ClusterConfig
from blockwise.errors import ConfigError, DependencyError, StorageError

if TYPE_CHECKING:
    from distributed.security import Security

FOLDER_VARIABLE = "BLOCKWISE_TLS"
"""Environment: a folder with the three files of `FILES`, for a scheduler that somebody else started."""
FILES = ("ca.pem", "cert.pem", "key.pem")
"""The authority that both sides trust, our certificate, and its key."""
DASK_KEYS = ("ca-file", "client.cert", "client.key")
"""The same in Dask's settings, below distributed.comm.tls."""


def temporary() -> "Security":
    """A key and a certificate made now, held in memory, valid for a year and for this cluster alone: whoever lacks them is refused.

    Raises
    ------
    DependencyError : the package cryptography is missing.
    """
    from distributed.security import Security

    try:
        return Security.temporary()
    except ImportError as error:
        raise DependencyError("TLS needs the package cryptography: pip install cryptography, or set [cluster] tls = false") from error


def local(config: ClusterConfig) -> "Security | None":
    """The certificates of a cluster on this machine; None where its traffic stays readable, which is what it does unless asked."""
    return temporary() if config.tls else None


def given(config: ClusterConfig) -> "Security | None":
    """The certificates for a scheduler that somebody else started; None for one without TLS.

    They come from the folder that $BLOCKWISE_TLS names, else from Dask's own settings (distributed.comm.tls).

    Raises
    ------
    ConfigError : `[cluster] tls` and the address contradict each other, or no certificates are given.
    """
    from distributed.security import Security

    encrypted = (config.address or "").startswith("tls://")
    if config.tls not in (None, encrypted):
        raise ConfigError(
            f"[cluster] tls = {str(config.tls).lower()}, but address = {config.address!r}: the address of a scheduler with TLS, and of no "
            "other, begins with tls://"
        )
    if not encrypted:
        return None
    if folder := os.environ.get(FOLDER_VARIABLE):
        return from_folder(folder)
    security = Security(require_encryption=True)
    if not all((security.tls_ca_file, security.tls_client_cert, security.tls_client_key)):
        raise ConfigError(
            f"{config.address} asks for certificates: name the folder that holds {', '.join(FILES)} in ${FOLDER_VARIABLE}, or give "
            f"Dask's settings {', '.join(f'distributed.comm.tls.{k}' for k in DASK_KEYS)}"
        )
    return security


def from_folder(folder: str | Path) -> "Security":
    """The certificates in a folder, for every role.

    Raises
    ------
    ConfigError : a file is missing, or others may read the key.
    """
    from distributed.security import Security

    place = Path(folder)
    if missing := [name for name in FILES if not (place / name).is_file()]:
        raise ConfigError(f"{place} lacks {', '.join(missing)}: it must hold {', '.join(FILES)} (PEM)")
    ca, cert, key = (str(place / name) for name in FILES)
    if Path(key).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"others can read the key {key}: chmod 600 {key}")
    roles = {f"tls_{role}_{what}": path for role in ("client", "scheduler", "worker") for what, path in (("cert", cert), ("key", key))}
    return Security(require_encryption=True, tls_ca_file=ca, **roles)


def write_certificates(folder: str | Path) -> Path:
    """Make a key and a certificate and write them into a private folder, as `FILES`: for a scheduler and workers started by hand.

    Raises
    ------
    StorageError : the folder cannot be made private.  DependencyError : the package cryptography is missing.
    """
    made, place = temporary(), private_folder(folder)
    for name, text in zip(FILES, (made.tls_ca_file, made.tls_client_cert, made.tls_client_key), strict=True):
        file = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w") as out:
            out.write(str(text))
    return place


def private_folder(path: str | Path) -> Path:
    """A folder that only this user can enter (mode 0700), made where it is not there.

    Raises
    ------
    StorageError : it is another user's, a link, or its mode cannot be set (some network file systems).
    """
    folder = Path(path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StorageError(f"{folder} is not a folder of this user: certificates may not lie there")
    folder.chmod(0o700)
    if folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StorageError(
            f"{folder} stays open to others whatever mode is set: certificates may not lie there; choose another file system"
        )
    return folder


def is_loopback(host: str) -> bool:
    """Whether a port bound to `host` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown_host(host: str) -> str:
    """The host in the address of a page that is bound to `host`: this machine's name where that is any address."""
    try:
        return platform.node() if ipaddress.ip_address(host).is_unspecified else f"[{host}]" if ":" in host else host
    except ValueError:
        return host


def http_warning(config: ClusterConfig, page: str) -> str:
    """What must be said where pages can be seen from elsewhere; empty where they cannot."""
    if config.kind == "address" or is_loopback(config.http_host):
        return ""
    where = f" ({page})" if page else ""
    return (
        f"[cluster] http_host = {config.http_host!r}: whoever reaches this machine can read the live page and Dask's dashboard{where}, "
        'without a password: names, paths, errors, tracebacks. http_host = "127.0.0.1" and an ssh tunnel show them to you alone'
    )
