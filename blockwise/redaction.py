"""Secrets taken out of texts, in one place: events, failures, errors, run folders and what the command prints pass through here.

Known are the user and password of a URL; values of a URL's query that are signatures, tokens and the like; `password=...` and
`"token": "..."` in free text; bearer and basic headers, keys of cloud accounts, private keys; and the values of environment variables
whose names say secret. What looks like nothing of this cannot be known: secrets belong into the environment.
"""

import os
import re
from urllib.parse import quote

HIDDEN = "***"

_WORDS = r"pass(?:word|wd|phrase)|secret|token|signature|credential|api_?key|access_?key|account_?key|private_?key"
_SIGNS = (
    *("passw", "passphrase", "secret", "token", "signature", "credential", "bearer", "authorization"),
    *(f"{owner}{link}key" for owner in ("api", "access", "account", "private") for link in ("", "_")),
)
_BARE_SIGNS = ("PRIVATE KEY", "AKIA", "ASIA", "ya29.", "eyJ")
"""Without one of these in it, a text needs no further look."""
_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s/?#'\"<>]+@")
_QUERY = re.compile(rf"(?i)([?&;](?:[\w.%~-]{{0,64}}?(?:{_WORDS})[\w.%~-]{{0,64}}|sig|key|auth|code)=)[^\s&;'\"<>#)]+")
_PAIR = re.compile(rf"(?i)((?:{_WORDS})[\w-]{{0,40}}=[\"']?)[^\s&;,'\"<>#)=]+")
_ITEM = re.compile(rf"(?i)((?:{_WORDS})[\w-]{{0,40}}[\"']\s{{0,8}}[:=]\s{{0,8}}[\"'])[^\"']+")
_HEADER = re.compile(r"(?i)\b(bearer|authorization[\"']?\s{0,8}[:=]\s{0,8}[\"']?(?:basic|token))\s{1,8}[\w.~+/=-]{6,}")
_BARE = re.compile(
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bya29\.[\w-]{10,}|\beyJ[\w-]{10,2000}\.[\w-]{10,2000}\.[\w-]+",
    re.DOTALL,
)
"""Repeats are bounded, for these run over texts of any content."""
_VARIABLE = re.compile(r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|CREDENTIAL")
LEAST_CHARS: int = 6
"""A shorter value of the environment is a word that any text may hold."""


def redact(text: str) -> str:
    """`text` with every secret that can be known replaced by `***`; the same for a text that holds none."""
    for secret in _of_environment():
        text = text.replace(secret, HIDDEN)
    text, lower = redact_urls(text), text.lower()
    if any(sign in lower for sign in _SIGNS):
        text = _HEADER.sub(rf"\1 {HIDDEN}", text)
        for pattern in (_PAIR, _ITEM):
            text = pattern.sub(rf"\1{HIDDEN}", text)
    return _BARE.sub(HIDDEN, text) if any(sign in text for sign in _BARE_SIGNS) else text


def redact_urls(text: str) -> str:
    """`text` with the secrets of the URLs in it replaced; all else, and every URL without a secret, stays as it is."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text)) if "://" in text else text


def is_redacted(text: str) -> bool:
    """Whether a URL lost a secret here, so that it can no longer be opened."""
    return f"://{HIDDEN}@" in text or f"={HIDDEN}" in text


def _of_environment() -> list[str]:
    """Values of variables whose names say secret, longest first, as they are and percent-encoded; paths of files that hold one are none."""
    found = {v for k, v in os.environ.items() if _VARIABLE.search(k.upper()) and len(v) >= LEAST_CHARS and not v.startswith(("/", "~"))}
    return sorted(found | {quote(v, safe="") for v in found}, key=len, reverse=True)
