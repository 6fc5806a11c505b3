"""Sanitizes the fields of a log record: values that JSON can represent, of bounded size, without secrets.

One pass over the fields does all three. Short texts without secrets are cached, so a text that occurs again (a route, a
user agent, a message) costs one look-up. Measured in tests/bench/log_line.py.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import math
import operator
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from connectsoft_obs.redaction import REDACTED, RedactionPolicy, is_card_number, safe_str
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import EXCEPTION_STACKTRACE, TENANT_ID

MAX_VALUE_LENGTH: Final = 8192
"""Maximum characters of a value; the limit of Azure Monitor. A truncated value ends in TRUNCATION_MARK."""

TRUNCATION_MARK: Final = "...[truncated]"

_MAX_ITEMS = 1000
"""Maximum number of values inside one nested value."""

_MAX_DEPTH = 8
_MAX_CACHED, _MAX_CACHED_LENGTH = 4096, 256
_PLAIN, _SECRET, _TENANT, _STACK, _NAMED = 0, 1, 2, 3, 4
_HASHED_TENANT: Final = re.compile(r"[0-9a-f]{16}:h")
_MIN_CHECKED_INTEGER = 10**11
"""Integers from here on may be card numbers or exceed 64 bits."""


class Sanitizer:
    """Sanitizes fields and texts. Thread-safe; no method raises.

    Args:
        settings: additional redaction rules, and how tenant ids are shown.
        count_redacted: called with the number of redacted values.
        policy: the redaction policy; by default that of the settings.
    """

    def __init__(
        self, settings: Settings, count_redacted: Callable[[float], None], policy: RedactionPolicy | None = None
    ) -> None:
        self._policy = policy or settings.redaction_policy()
        self._count_redacted = count_redacted
        self._allowed_query_keys = frozenset(settings.url_query_allowlist)
        self._hashes_tenants = settings.log_tenant_id == "hash"
        self._tenant_hash_key = (settings.log_tenant_key or "").encode()[:64]
        self._key_kinds: dict[str, int] = {}
        self._clean_texts: set[str] = set()

    def sanitize_bound(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """A sanitized copy of bound attributes, for spans too. Tenant ids are hashed only in log lines."""
        sanitized = dict(attributes)
        self.sanitize_fields(sanitized)
        if self._hashes_tenants and TENANT_ID in attributes:
            sanitized[TENANT_ID] = attributes[TENANT_ID]
        return sanitized

    def sanitize_fields(self, fields: dict[str, Any]) -> None:
        """Sanitize the values of a record's fields in place."""
        key_kinds, clean_texts = self._key_kinds, self._clean_texts
        for key, value in fields.items():
            if key_kinds.get(key, _SECRET):
                fields[key] = self._sanitize_by_key(key, value)
                continue
            value_type = type(value)
            if value_type is str:
                if value not in clean_texts:
                    fields[key] = self.sanitize_text(value)
            elif value_type is int:
                if not -_MIN_CHECKED_INTEGER < value < _MIN_CHECKED_INTEGER:
                    fields[key] = self._integer(value)
            elif value_type is float:
                if value - value:  # true for infinities and NaN, which JSON cannot represent
                    fields[key] = _non_finite(value)
            elif value_type is not bool and value is not None:
                fields[key] = self._nested(value, 0, [_MAX_ITEMS])

    def sanitize_text(self, text: str) -> str:
        """The text, truncated and without secrets."""
        if text in self._clean_texts:
            return text
        if len(text) > MAX_VALUE_LENGTH:
            text = text[:MAX_VALUE_LENGTH] + TRUNCATION_MARK
        return self._redact(text)

    def _redact(self, text: str) -> str:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be encoded
        if self._policy.may_contain_secret(text):
            text, number = self._policy.redact_and_count(text)
            if number:
                self._count_redacted(number)
        if len(text) <= _MAX_CACHED_LENGTH:
            if len(self._clean_texts) >= _MAX_CACHED:
                self._clean_texts.clear()
            self._clean_texts.add(text)
        return text

    def _sanitize_by_key(self, key: str, value: Any) -> Any:
        """A value under a key that is not cached as plain."""
        kind = self._key_kinds.get(key)
        if kind is None:
            kind = self._classify_key(key)
        if value is None or type(value) is bool:  # `isinstance` reads `__class__`, which can raise
            return value
        if kind == _SECRET:
            return self._secret(value)
        if kind == _TENANT:
            return self._hash_tenant(value)
        if kind == _STACK and type(value) is str and len(value) > MAX_VALUE_LENGTH:
            # The end of a stack trace has the exception, its beginning the entry point.
            first, last = value[: MAX_VALUE_LENGTH // 4], value[-MAX_VALUE_LENGTH * 3 // 4 :]
            return self._redact(f"{first}\n{TRUNCATION_MARK}\n{last}")
        if kind == _NAMED and type(value) is str:
            return self._redact_named(key, value)
        return self._nested(value, 0, [_MAX_ITEMS])

    def _redact_named(self, key: str, text: str) -> str:
        if len(text) > MAX_VALUE_LENGTH:
            text = text[:MAX_VALUE_LENGTH] + TRUNCATION_MARK
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be encoded
        text, number = self._policy.redact_named_text(key, text, self._allowed_query_keys)
        if number:
            self._count_redacted(number)
        return text

    def _classify_key(self, key: Any) -> int:
        text = key if isinstance(key, str) else safe_str(key, str)
        if self._policy.is_secret_key(text):
            kind = _SECRET
        elif self._hashes_tenants and text in {TENANT_ID, "tenant_id", "tenantId"}:
            kind = _TENANT
        else:
            kind = _STACK if text == EXCEPTION_STACKTRACE else _NAMED if self._policy.has_named_rule(text) else _PLAIN
        if len(self._key_kinds) < _MAX_CACHED and len(text) <= _MAX_CACHED_LENGTH:
            self._key_kinds[text] = kind
        return kind

    def _secret(self, value: Any) -> Any:
        content = value[0] if type(value) is list and len(value) == 1 else value
        if type(content) is str and content in ("", REDACTED):  # only str: no `__eq__` of the application is called
            return value
        self._count_redacted(1)
        return REDACTED

    def _hash_tenant(self, tenant: Any) -> str:
        text = safe_str(tenant, str)
        if _HASHED_TENANT.fullmatch(text):
            return text
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, key=self._tenant_hash_key).hexdigest()
        return f"{digest}:h"

    def _integer(self, value: int) -> int | str:
        digits = str(value) if abs(value) < 10**19 else ""
        if value > 0 and digits and is_card_number(digits):
            self._count_redacted(1)
            return REDACTED
        return value if -(2**63) <= value < 2**63 else safe_str(value, str)[:MAX_VALUE_LENGTH]

    def _nested(self, value: Any, depth: int, remaining: list[int]) -> Any:
        """Any value as types that JSON has. `remaining` holds the number of values that are still allowed."""
        remaining[0] -= 1
        try:  # `isinstance` reads `__class__`, which a proxy of the application can raise from
            if value is None or isinstance(value, bool):
                return value
            if isinstance(value, str):
                return self.sanitize_text(str.__str__(value))
            if isinstance(value, int):
                return self._integer(int(value))
            if isinstance(value, float):
                number = float(value)
                return number if math.isfinite(number) else _non_finite(number)
            if depth > _MAX_DEPTH or remaining[0] < 0:
                return TRUNCATION_MARK
            return self._compound(value, depth, remaining)
        except Exception:  # noqa: BLE001  an object of the application, possibly modified by another thread meanwhile
            return self.sanitize_text(safe_str(value))

    def _compound(self, value: Any, depth: int, remaining: list[int]) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, depth, remaining)
        if (structure := _structured_fields(value)) is not None:
            return self._mapping(structure, depth, remaining)
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(value, depth, remaining)
        if isinstance(value, enum.Enum):
            return self._nested(value.value, depth + 1, remaining)
        if isinstance(value, datetime.datetime | datetime.date | datetime.time):
            return value.isoformat()
        if hasattr(value, "__index__"):  # integer types of other libraries
            return self._integer(operator.index(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return self.sanitize_text(bytes(value[:MAX_VALUE_LENGTH]).decode("utf-8", "replace"))
        return self.sanitize_text(safe_str(value, repr if isinstance(value, BaseException) else str))

    def _mapping(self, value: Mapping[Any, Any], depth: int, remaining: list[int]) -> dict[str, Any]:
        sanitized: dict[str, Any] = {}
        for key, item in list(value.items()):
            if remaining[0] <= 0:
                sanitized[TRUNCATION_MARK] = True
                break
            name = self.sanitize_text(key.decode("latin-1") if isinstance(key, bytes) else safe_str(key, str))
            kind = self._key_kinds.get(name)
            if (self._classify_key(name) if kind is None else kind) in (_SECRET, _TENANT):
                remaining[0] -= 1
                sanitized[name] = self._sanitize_by_key(name, item)
            else:
                sanitized[name] = self._nested(item, depth + 1, remaining)
        return sanitized

    def _sequence(self, value: Any, depth: int, remaining: list[int]) -> list[Any]:
        items = list(value)
        if len(items) == 2 and isinstance(items[0], str | bytes):  # a header as a pair of name and value
            name = items[0].decode("latin-1") if isinstance(items[0], bytes) else items[0]
            if self._policy.is_secret_key(name):
                return [self.sanitize_text(name), self._sanitize_by_key(name, items[1])]
        sanitized: list[Any] = []
        for item in items:
            if remaining[0] <= 0:
                sanitized.append(TRUNCATION_MARK)
                break
            sanitized.append(self._nested(item, depth + 1, remaining))
        return sanitized


def _structured_fields(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass, a named tuple, or an attrs, pydantic or msgspec object; None for any other value.

    Each library is recognised by a documented attribute of its classes: none is imported, and no `__getattr__` of the
    application is called. A field that was not set, or whose property raises, is left out.
    """
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.repr]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__ if field.repr]
    elif isinstance(
        fields := getattr(kind, "model_fields" if hasattr(kind, "model_fields") else "__fields__", 0), dict
    ):
        names = [name for name, field in fields.items() if getattr(field, "repr", True)]
        extra = getattr(value, "__pydantic_extra__", None)
        names += list(extra) if isinstance(extra, dict) else []
    elif hasattr(kind, "__struct_fields__") or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        names = list(getattr(kind, "__struct_fields__", None) or kind._fields)
    else:
        return None
    shown = {}
    for name in names:
        with suppress(Exception):  # not set, or a property of the application
            shown[name] = getattr(value, name)
    return shown


def _non_finite(value: float) -> str:
    """Text of a non-finite number, as in the JSON mapping of protobuf."""
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
