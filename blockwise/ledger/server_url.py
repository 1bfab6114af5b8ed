"""A MongoDB url taken apart so that its secrets stay out of logs, run folders and error texts."""

import os
from dataclasses import dataclass, field
from urllib.parse import unquote

from blockwise.errors import ConfigError

USER_VARIABLE = "BLOCKWISE_MONGODB_USER"
PASSWORD_VARIABLE = "BLOCKWISE_MONGODB_PASSWORD"
DEFAULT_DATABASE = "blockwise"

SECRET_OPTIONS: frozenset[str] = frozenset({"authmechanismproperties", "sslpempassphrase", "tlscertificatekeyfilepassword"})
"""Options of a url, in lower case, whose values are secrets."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """Where a ledger's server is and who asks.

    text : the url without user, password and secret options; this may be shown and stored.
    login : keyword arguments of the client that come from the environment.
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


def parse_url(url: str) -> ServerUrl:
    """Take a mongodb:// or mongodb+srv:// url apart.

    User and password come from $BLOCKWISE_MONGODB_USER and $BLOCKWISE_MONGODB_PASSWORD; those in the url win.

    Raises
    ------
    ConfigError : no server named, a user or password that is not percent-encoded, or only one of the two variables set.
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
    login = {} if user_info else _login()
    return ServerUrl(
        text=f"{scheme}://{hosts}/{database}" + ("?" + "&".join(shown) if shown else ""),
        database=unquote(database) or DEFAULT_DATABASE,
        raw=url,
        login=login,
        secrets=_secrets([*user_info.split(":", 1), *login.values(), *(o.partition("=")[2] for o in options if _is_secret(o))]),
    )


def without_credentials(url: str) -> str:
    """A ledger's url or path as it may be shown and stored."""
    return parse_url(url).text if url.startswith(("mongodb://", "mongodb+srv://")) else url


def _is_secret(option: str) -> bool:
    return option.partition("=")[0].lower() in SECRET_OPTIONS


def _login() -> dict[str, str]:
    user, password = os.environ.get(USER_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
    if bool(user) != bool(password):
        there, missing = (USER_VARIABLE, PASSWORD_VARIABLE) if user else (PASSWORD_VARIABLE, USER_VARIABLE)
        raise ConfigError(f"${there} is set but ${missing} is not: set both, or neither for a server without users")
    return {"username": user, "password": password} if user and password else {}


def _secrets(values: list[str]) -> tuple[str, ...]:
    """As written and decoded, for either may turn up in an error."""
    return tuple({form for value in values for form in (value, unquote(value)) if form})
