"""Names of fields, headers, query parameters and settings whose values are secrets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

REDACTED: Final = "REDACTED"
"""Replaces a secret value everywhere."""

_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")

SECRET_KEY_NAMES: Final = "|".join(
    f"{purpose}[_ -]?key"
    for purpose in (
        "api", "app", "access", "account", "subscription", "storage", "master", "functions?", "host", "signing", "encryption",
        "service", "license", "ssh", "secret",
    )
)  # fmt: skip
# Words that make a name secret at any position, and words that do so only at its end: `token_count` is a number of
# tokens, `password_old` is a password.
_ANY_POSITION_WORDS: Final = (
    r"pass(?:word|wd|phrase|code)|pwd|secret|credential|private_?key|conn(?:ection)?_?str(?:ing)?"
)
_LAST_POSITION_WORDS: Final = (
    rf"token|auth|authorization|cookies?|jwt|bearer|cvv|cvc|card_?number|credit_?card|{SECRET_KEY_NAMES}"
)
_SECRET_KEY: Final = re.compile(rf"(?:{_ANY_POSITION_WORDS})|(?:{_LAST_POSITION_WORDS})$")
_NEUTRAL_SUFFIXES: Final = frozenset({
    "header", "headers", "value", "values", "text", "string", "raw", "base64", "b64", "plain", "hash", "old", "new", "current",
    "confirm", "confirmation",
})  # fmt: skip
_METADATA_SUFFIXES: Final = frozenset({
    "age", "arn", "at", "changed", "count", "created", "enabled", "expired", "expires", "expiry", "expiration", "field", "file",
    "fingerprint", "id", "ids", "len", "length", "limit", "manager", "name", "names", "path", "policy", "provider", "ref",
    "reference", "required", "rotation", "status", "store", "type", "types", "updated", "uri", "url", "valid", "version",
})  # fmt: skip


# Query parameters that the OpenTelemetry convention for `url.query` lists (case-sensitive there), and names that carry
# a credential in a URL although the same name is harmless in a log field.
_STANDARD_QUERY_KEYS: Final = frozenset(
    {"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "X-Goog-Signature"}
)
_QUERY_KEY: Final = re.compile(r"token|signature|assertion|^session|^sid$|^key$|^code$", re.IGNORECASE)

_MAX_CACHED: Final = 4096
_MAX_CACHED_LENGTH: Final = 256


class SecretKeys:
    """Decides whether a name means that the value is a secret. Thread-safe; results are cached.

    Args:
        extra: additional names, in any spelling: `ibanNumber` also matches `iban_number` and `X-Iban-Number`.
    """

    def __init__(self, extra: Sequence[str] = ()) -> None:
        names = ["_".join(split_words(name)) for name in extra]
        self._extra = re.compile(rf"(?:^|_)(?:{'|'.join(map(re.escape, names))})(?:_|$)") if any(names) else None
        self._cache: dict[str, bool] = {}

    def is_secret(self, name: str) -> bool:
        """Whether a field, header or setting of this name holds a secret."""
        is_secret = self._cache.get(name)
        if is_secret is None:
            is_secret = self._decide(name)
            if len(self._cache) < _MAX_CACHED and len(name) <= _MAX_CACHED_LENGTH:
                self._cache[name] = is_secret
        return is_secret

    def is_secret_query_key(self, name: str) -> bool:
        """Whether a query parameter of this name holds a secret."""
        return name in _STANDARD_QUERY_KEYS or _QUERY_KEY.search(name) is not None or self.is_secret(name)

    def _decide(self, name: str) -> bool:
        words = split_words(name)
        while words and words[-1].isdecimal():
            words.pop()
        joined = "_".join(words)
        if self._extra is not None and self._extra.search(joined):
            return True
        while words and words[-1] in _NEUTRAL_SUFFIXES:
            words.pop()
        if not words or words[-1] in _METADATA_SUFFIXES:
            return False
        return _SECRET_KEY.search(joined) is not None or _SECRET_KEY.search("_".join(words)) is not None


def split_words(name: str) -> list[str]:
    """Lower-case words of a name in camelCase, snake_case, kebab-case or with spaces."""
    return [word.lower() for word in _WORD.findall(name)]
