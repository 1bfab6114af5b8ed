"""A MongoDB url taken apart so that its secrets stay out of logs, run folders and error texts."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from blockwise.errors import ConfigError, MissingError

USER_VARIABLE = "BLOCKWISE_MONGODB_USER"
PASSWORD_VARIABLE = "BLOCKWISE_MONGODB_PASSWORD"
FILE_VARIABLE = "BLOCKWISE_MONGODB_CREDENTIALS_FILE"
FILE_OPTION = "loginFile"
"""Option of our own in a url: the path of a credentials file. The server never sees it."""
DEFAULT_DATABASE = "blockwise"
SCHEMES = ("mongodb://", "mongodb+srv://")

SECRET_OPTIONS: frozenset[str] = frozenset({"authmechanismproperties", "sslpempassphrase", "tlscertificatekeyfilepassword"})
"""Options of a url, in lower case, whose values are secrets."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """Where a ledger's server is and who asks.

    text : the url without user, password and secret options; this may be shown and stored.
    raw : the url for the client, without options of our own.
    login : keyword arguments of the client that come from the environment or from a file.
    """

    text: str
    database: str
    raw: str = field(repr=False)
    login: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def redact(self, text: str) -> str:
        """`text` with every secret replaced by ***."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def parse_url(url: str, *, ask: bool = True) -> ServerUrl:
    """Take a mongodb:// or mongodb+srv:// url apart; with `ask` False, leave environment and files alone.

    The first of these that is there gives user and password: the url itself; the file that its option loginFile names; the file
    that $BLOCKWISE_MONGODB_CREDENTIALS_FILE names; $BLOCKWISE_MONGODB_USER with $BLOCKWISE_MONGODB_PASSWORD.

    Raises
    ------
    ConfigError : no server named, a user or password that is not percent-encoded, only one of the two variables set, a credentials
        file that others may read or that does not hold two lines.
    MissingError : no credentials file there.
    """
    scheme, _, rest = url.partition("://")
    head, _, query = rest.partition("?")
    user_info, _, place = head.rpartition("@")
    if "@" in query or "@" in user_info or "/" in user_info:
        raise ConfigError(
            "[ledger] url: write @ : / ? in a user, password or option percent-encoded (%40 %3A %2F %3F), or better: leave user and "
            f"password out of the url and set ${USER_VARIABLE} and ${PASSWORD_VARIABLE}"
        )
    hosts, _, database = place.partition("/")
    if not hosts:
        raise ConfigError("[ledger] url names no server: write mongodb://HOST:PORT/DATABASE")
    options = [o for o in query.split("&") if o]
    shown = [o for o in options if not _is_secret(o)]
    files = [unquote(o.partition("=")[2]) for o in options if _is_file(o)]
    login = {} if user_info or not ask else _login(files[-1] if files else os.environ.get(FILE_VARIABLE))
    return ServerUrl(
        text=_joined(f"{scheme}://{hosts}/{database}", shown),
        database=unquote(database) or DEFAULT_DATABASE,
        raw=_joined(f"{scheme}://{head}", (o for o in options if not _is_file(o))),
        login=login,
        secrets=_secrets([*user_info.split(":", 1), *login.values(), *(o.partition("=")[2] for o in options if _is_secret(o))]),
    )


def without_credentials(url: str) -> str:
    """A ledger's url or path as it may be shown and stored."""
    return parse_url(url, ask=False).text if url.startswith(SCHEMES) else url


def _is_secret(option: str) -> bool:
    return option.partition("=")[0].lower() in SECRET_OPTIONS


def _is_file(option: str) -> bool:
    return option.partition("=")[0].lower() == FILE_OPTION.lower()


def _joined(url: str, options: Iterable[str]) -> str:
    query = "&".join(options)
    return f"{url}?{query}" if query else url


def _login(file: str | None) -> dict[str, str]:
    if file:
        return read_credentials(Path(file))
    user, password = os.environ.get(USER_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
    if bool(user) != bool(password):
        there, missing = (USER_VARIABLE, PASSWORD_VARIABLE) if user else (PASSWORD_VARIABLE, USER_VARIABLE)
        raise ConfigError(f"${there} is set but ${missing} is not: set both, or neither for a server without users")
    return {"username": user, "password": password} if user and password else {}


def read_credentials(file: Path) -> dict[str, str]:
    """User and password of a credentials file: the user in its first line, the password in its second, nothing else.

    Raises
    ------
    MissingError : it is not there.  ConfigError : a relative path, a file that others may read, or not two lines.
    """
    file = file.expanduser()
    if not file.is_absolute():
        raise ConfigError(f"the credentials file {file} is a relative path: give it whole, for drivers start in any folder")
    try:
        mode, lines = file.stat().st_mode & 0o777, file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise MissingError(f"no credentials file {file}: write the user into its first line and the password into its second") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the credentials file {file} cannot be read: {type(error).__name__}") from None
    if mode & 0o077:
        raise ConfigError(f"the credentials file {file} may be read by others (mode {mode:04o}): chmod 600 {file}")
    if len(lines) != 2 or not all(lines):
        raise ConfigError(f"the credentials file {file} has {len(lines)} lines: it holds two, the user and below it the password")
    return {"username": lines[0], "password": lines[1]}


def refuse_shown_password(overrides: Iterable[str]) -> None:
    """Refuse a password among values of the command line, which every user of the machine sees in the list of processes.

    Raises
    ------
    ConfigError
    """
    for override in overrides:
        key, _, value = override.partition("=")
        url = value.strip(" '\"")
        if key.strip() == "ledger.url" and url.startswith(SCHEMES) and parse_url(url, ask=False).secrets:
            raise ConfigError(
                "--set ledger.url holds a password, and a command line is seen by everybody on this machine: leave user and password out "
                f"of the url; set ${USER_VARIABLE} and ${PASSWORD_VARIABLE}, or name a credentials file in ${FILE_VARIABLE}"
            )


def _secrets(values: list[str]) -> tuple[str, ...]:
    """As written and decoded, for either may turn up in an error."""
    return tuple({form for value in values for form in (value, unquote(value)) if form})
