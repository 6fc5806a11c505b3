"""Replaces the values of secret parameters in query strings, and in URLs inside text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_plus

from connectsoft_obs.redaction.keys import REDACTED

_PARAMETER: Final = re.compile(
    r"([?&#](?:amp;)?)([\w.~%+\[\]$-]{1,128}+)=(?!REDACTED(?:[\s&#\"'<>]|\Z))([^\s&#\"'<>]++)"
)
"""A parameter in a URL: the character before it, its name and its value."""


class QueryStringRedactor:
    """Replaces the values of secret query parameters. Immutable and thread-safe.

    Args:
        is_secret: decides by the decoded name of a parameter.
    """

    def __init__(self, is_secret: Callable[[str], bool]) -> None:
        self._is_secret = is_secret

    def redact(self, query: str, allowed: frozenset[str] = frozenset()) -> tuple[str, int]:
        """A query string, values of secret parameters replaced, and the number of replacements.

        Args:
            query: the raw query string, without `?`; all other characters are unchanged.
            allowed: names whose values are shown although they look secret.
        """
        if "=" not in query:
            return query, 0
        parts, count = query.split("&"), 0
        for index, part in enumerate(parts):
            name, _, value = part.partition("=")
            if value and value != REDACTED and name not in allowed and self._is_secret(_decode(name)):
                parts[index] = f"{name}={REDACTED}"
                count += 1
        return ("&".join(parts), count) if count else (query, 0)

    def redact_urls(self, text: str) -> tuple[str, int]:
        """A text, values of secret parameters of the URLs in it replaced, and the number of replacements."""
        count = 0

        def replace(match: re.Match[str]) -> str:
            nonlocal count
            if not self._is_secret(_decode(match[2])):
                return match[0]
            count += 1
            return f"{match[1]}{match[2]}={REDACTED}"

        text = _PARAMETER.sub(replace, text)
        return text, count


def _decode(name: str) -> str:
    return unquote_plus(name) if "%" in name or "+" in name else name
