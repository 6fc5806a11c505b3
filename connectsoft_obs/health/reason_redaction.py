"""Reasons as they may be shown outside the log: without what gives access to anything."""

from __future__ import annotations

import re

LONGEST = 500
"""Characters of a reason in an answer."""

_USER_INFO = re.compile(r"(?<=://)[^/?#\s@]*@")
_PAIR = re.compile(
    r"""(?i)([\w.-]*(?:passw(?:or)?d|pwd|secret|token|api[_-]?key|accesskey|sharedaccess\w*|credential|authorization|signature|\bsig)["']?\s*[=:]\s*)"""
    r"""("[^"]*"|'[^']*'|[^\s;,&'"]+)"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")


def redact_text(reason: str) -> str:
    """A reason without user names and passwords of addresses, values of secret-looking keys, and bearer tokens."""
    text = _USER_INFO.sub("***@", reason[: 4 * LONGEST])
    text = _BEARER.sub(r"\1 ***", text)
    text = _PAIR.sub(r"\1***", text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
