"""The query of a URL, without secrets: keys stay, values of keys that look secret do not."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

REDACTED = "REDACTED"

# The five keys that OpenTelemetry's convention names, case-sensitive as it has them; then ours, in any case.
_STANDARD = frozenset({"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "X-Goog-Signature"})
_SECRET = re.compile(
    r"token|secret|passw|pwd|passphrase|api[_-]?key|^key$|^code$|auth|credential|signature|^session|^sid$|jwt|assertion",
    re.IGNORECASE,
)
_MOST = 8192


def redact_query(query: bytes, shown: frozenset[str] = frozenset()) -> str:
    """The query as text, its secrets replaced; every other byte as it was sent.

    Args:
        query: raw query string.
        shown: keys whose values are shown whatever they are called.
    """
    text = query[:_MOST].decode("latin-1")
    if "=" not in text:
        return text
    return "&".join([_pair(part, shown) for part in text.split("&")])


def _pair(part: str, shown: frozenset[str]) -> str:
    key, equals, value = part.partition("=")
    if not value or key in shown:
        return part
    name = unquote_plus(key) if "%" in key or "+" in key else key
    return f"{key}={REDACTED}" if name in _STANDARD or _SECRET.search(name) else f"{key}{equals}{value}"
