"""Redacts the attributes of spans, events and links that code outside of this package has created."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from connectsoft_obs.redaction.keys import REDACTED
from connectsoft_obs.redaction.text import is_card_number

if TYPE_CHECKING:
    from connectsoft_obs.redaction.policy import RedactionPolicy

_MIN_CARD_NUMBER: Final = 10**11
_MAX_CACHED, _MAX_CACHED_LENGTH = 4096, 256
_MAX_DEPTH: Final = 8
_PLAIN, _SECRET, _NAMED = 0, 1, 2


class AttributeRedactor:
    """Applies the redaction policy to attributes. Thread-safe.

    Names and short texts without secrets are cached: the same route, host or statement costs one look-up.

    Args:
        policy: the redaction policy.
        allowed_query_keys: query parameters whose values are shown in `url.query`.
    """

    def __init__(self, policy: RedactionPolicy, allowed_query_keys: frozenset[str] = frozenset()) -> None:
        self._policy = policy
        self._allowed_query_keys = allowed_query_keys
        self._key_kinds: dict[str, int] = {}
        self._clean_texts: set[str] = set()

    def redact(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same mapping if it has no secret, else a copy without secrets."""
        redacted: dict[str, Any] | None = None
        key_kinds, clean_texts = self._key_kinds, self._clean_texts
        for key, value in attributes.items():
            if key_kinds.get(key) == _PLAIN:  # without a call for most attributes: a third of the cost
                kind = type(value)
                if value in clean_texts if kind is str else (kind is int and value < _MIN_CARD_NUMBER) or kind is bool:
                    continue
            replacement = self._redact_value(key, value, 0)
            if replacement is not value:
                if redacted is None:
                    redacted = dict(attributes)
                redacted[key] = replacement
        return attributes if redacted is None else redacted

    def redact_text(self, text: str) -> str:
        """The text without secrets; the same object if it has none."""
        if text in self._clean_texts:
            return text
        redacted = self._policy.redact_text(text)
        if redacted != text:
            return redacted
        if len(text) <= _MAX_CACHED_LENGTH:
            if len(self._clean_texts) >= _MAX_CACHED:
                self._clean_texts.clear()
            self._clean_texts.add(text)
        return text

    def _redact_value(self, key: str, value: Any, depth: int) -> Any:
        """The same object if it has no secret."""
        kind = self._key_kinds.get(key)
        if kind is None:
            kind = self._classify_key(key)
        if isinstance(value, str):
            if kind == _SECRET:
                return REDACTED if value not in ("", REDACTED) else value
            if kind == _NAMED:
                redacted = self._policy.redact_named_text(key, value, self._allowed_query_keys)[0]
                return redacted if redacted != value else value
            return self.redact_text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, list | tuple) and depth < _MAX_DEPTH:
            items = [self._redact_value(key, item, depth + 1) for item in value]
            is_same = all(item is original for item, original in zip(items, value, strict=True))
            return value if is_same else type(value)(items) if type(value) in (list, tuple) else items
        if kind == _SECRET:
            return REDACTED
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            items_by_key = {name: self._redact_value(str(name), item, depth + 1) for name, item in value.items()}
            return value if all(items_by_key[name] is item for name, item in value.items()) else items_by_key
        if isinstance(value, int) and value >= _MIN_CARD_NUMBER and is_card_number(str(value)[:20]):
            return REDACTED
        return value

    def _classify_key(self, key: str) -> int:
        kind = _SECRET if self._policy.is_secret_key(key) else _NAMED if self._policy.has_named_rule(key) else _PLAIN
        if len(self._key_kinds) < _MAX_CACHED and len(key) <= _MAX_CACHED_LENGTH:
            self._key_kinds[key] = kind
        return kind
