"""The redaction policy that every sink uses.

Sinks are log fields and text, span attributes, captured headers, `url.query`, health reasons, configuration errors and
what the package writes to standard error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote_plus

from connectsoft_obs.redaction.keys import REDACTED, SecretKeys
from connectsoft_obs.redaction.text import TextRedactor

_MAX_QUERY: Final = 8192
"""Maximum bytes of a query string; the rest is cut."""


class RedactionPolicy:
    """Recognises and replaces secrets, by name and by content. Thread-safe.

    Args:
        keys: additional names of fields, headers and query parameters whose values are secret.
        emails: also replace e-mail addresses in text.
        pattern: an additional expression whose matches in text are replaced.
    """

    def __init__(self, keys: Sequence[str] = (), emails: bool = False, pattern: re.Pattern[str] | None = None) -> None:
        self._keys = SecretKeys(keys)
        text = TextRedactor(emails, pattern)
        self.is_secret_key: Callable[[str], bool] = self._keys.is_secret
        self.may_contain_secret: Callable[[str], bool] = text.may_contain_secret
        self.redact_and_count: Callable[[str], tuple[str, int]] = text.redact

    def redact_text(self, text: str) -> str:
        """The text with its secrets replaced."""
        return self.redact_and_count(text)[0] if self.may_contain_secret(text) else text

    def redact_query(self, query: bytes, allowed: frozenset[str] = frozenset()) -> str:
        """A raw query string as text, values of secret parameters replaced; all other bytes are unchanged.

        Args:
            query: the raw query string; bytes beyond 8192 are cut.
            allowed: names whose values are shown although they look secret.
        """
        text = query[:_MAX_QUERY].decode("latin-1")
        if "=" not in text:
            return text
        return "&".join([self._redact_parameter(part, allowed) for part in text.split("&")])

    def _redact_parameter(self, part: str, allowed: frozenset[str]) -> str:
        key, _, value = part.partition("=")
        if not value or key in allowed:
            return part
        name = unquote_plus(key) if "%" in key or "+" in key else key
        return f"{key}={REDACTED}" if self._keys.is_secret_query_key(name) else part


DEFAULT_POLICY: Final = RedactionPolicy()
"""The policy without settings of a service, for errors that occur before settings are loaded."""
