"""The redaction policy that every sink uses.

Sinks are log fields and text, exported spans with their events and links, captured headers, `url.query`, health reasons,
configuration errors and what the package writes to standard error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from connectsoft_obs.redaction.keys import SecretKeys
from connectsoft_obs.redaction.query_strings import QueryStringRedactor
from connectsoft_obs.redaction.statements import redact_statement
from connectsoft_obs.redaction.text import TextRedactor

_MAX_QUERY: Final = 8192
"""Maximum bytes of a query string; the rest is cut."""

_URL_QUERY: Final = "url.query"
_DATABASE_PREFIX: Final = "db."


class RedactionPolicy:
    """Recognises and replaces secrets, by name and by content. Thread-safe.

    Args:
        keys: additional names of fields, headers and query parameters whose values are secret.
        emails: also replace e-mail addresses in text.
        pattern: an additional expression whose matches in text are replaced.
    """

    def __init__(self, keys: Sequence[str] = (), emails: bool = False, pattern: re.Pattern[str] | None = None) -> None:
        secret_keys = SecretKeys(keys)
        self._queries = QueryStringRedactor(secret_keys.is_secret_query_key)
        text = TextRedactor(emails, pattern, self._queries)
        self.is_secret_key: Callable[[str], bool] = secret_keys.is_secret
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
        return self._queries.redact(query[:_MAX_QUERY].decode("latin-1"), allowed)[0]

    @staticmethod
    def has_named_rule(name: str) -> bool:
        """Whether `redact_named_text()` has a rule for attributes of this name."""
        return name == _URL_QUERY or name.startswith(_DATABASE_PREFIX)

    def redact_named_text(self, name: str, text: str, allowed: frozenset[str] = frozenset()) -> tuple[str, int]:
        """The text of the attribute `url.query` or `db.*` with its secrets replaced, and the number of replacements.

        Args:
            name: attribute name; any other is redacted as by `redact_text()`.
            text: the value.
            allowed: query parameters whose values are shown although they look secret.
        """
        if name == _URL_QUERY:
            return self._queries.redact(text[:_MAX_QUERY], allowed)
        count = 0
        if name.startswith(_DATABASE_PREFIX):
            text, count = redact_statement(text, self.is_secret_key)
        if self.may_contain_secret(text):
            text, number = self.redact_and_count(text)
            count += number
        return text, count


DEFAULT_POLICY: Final = RedactionPolicy()
"""The policy without settings of a service, for errors that occur before settings are loaded."""
