"""The last step before every sink: values that any JSON can hold, of bounded size, without secrets.

One pass over the fields of a line does all three, because each look at a value costs the same as the others. What was
found clean is remembered, so a text that comes again (a route, a user agent, a message) costs one look-up. Measured in
tests/bench/log_line.py.
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
from typing import Any, Final

from connectsoft_obs.redaction import REDACTED, RedactionPolicy, is_card_number, safe_str
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import EXCEPTION_STACKTRACE, TENANT_ID

MAX_VALUE: Final = 8192
"""Characters of a value; Azure's limit. What is cut ends in MARK."""

TRUNCATION_MARK: Final = "...[truncated]"

_ITEMS = 1000
"""Values that one nested value may hold in all; what is beyond is cut."""

_DEPTH = 8
_KEPT, _KEPT_LENGTH = 4096, 256
_PLAIN, _SECRET, _TENANT, _STACK = 0, 1, 2, 3
_HASHED: Final = re.compile(r"[0-9a-f]{16}:h")
_LARGE = 10**11
"""Whole numbers above it could be card numbers, or more than 64 bits."""


class Sanitizer:
    """Cleans fields and texts. Thread-safe; no method raises.

    Args:
        settings: what else is secret, and how tenants are shown.
        redacted: called with the number of replaced values.
        policy: what is a secret; by default that of the settings.
    """

    def __init__(
        self, settings: Settings, redacted: Callable[[float], None], policy: RedactionPolicy | None = None
    ) -> None:
        self._policy = policy or settings.redaction_policy()
        self._redacted = redacted
        self._tenants = settings.log_tenant_id == "hash"
        self._tenant_key = (settings.log_tenant_key or "").encode()[:64]
        self._keys: dict[str, int] = {}
        self._clean: set[str] = set()

    def attributes(self, given: dict[str, Any]) -> dict[str, Any]:
        """A clean copy of what is bound, for spans too; tenants are hashed where lines are written, and only there."""
        clean = dict(given)
        self.fields(clean)
        if self._tenants and TENANT_ID in given:
            clean[TENANT_ID] = given[TENANT_ID]
        return clean

    def fields(self, given: dict[str, Any]) -> None:
        """Clean the values of a line's fields in place."""
        keys, clean = self._keys, self._clean
        for key, value in given.items():
            if keys.get(key, _SECRET):
                given[key] = self._under(key, value)
                continue
            kind = type(value)
            if kind is str:
                if value not in clean:
                    given[key] = self.text(value)
            elif kind is int:
                if not -_LARGE < value < _LARGE:
                    given[key] = self._integer(value)
            elif kind is float:
                if value - value:  # neither of the infinities, nor what is no number, is a number in JSON
                    given[key] = _no_number(value)
            elif kind is not bool and value is not None:
                given[key] = self._nested(value, 0, [_ITEMS])

    def text(self, text: str) -> str:
        """A text of bounded length without secrets."""
        if text in self._clean:
            return text
        if len(text) > MAX_VALUE:
            text = text[:MAX_VALUE] + TRUNCATION_MARK
        return self._checked(text)

    def _checked(self, text: str) -> str:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
        if self._policy.may_contain_secret(text):
            text, found = self._policy.redact_counted(text)
            if found:
                self._redacted(found)
        if len(text) <= _KEPT_LENGTH:
            if len(self._clean) >= _KEPT:
                self._clean.clear()
            self._clean.add(text)
        return text

    def _under(self, key: str, value: Any) -> Any:
        """A value under a key that is not known to be harmless."""
        known = self._keys.get(key)
        if known is None:
            known = self._kind(key)
        if value is None or isinstance(value, bool):
            return value
        if known == _SECRET:
            return self._secret(value)
        if known == _TENANT:
            return self._hashed(value)
        if known == _STACK and isinstance(value, str) and len(value) > MAX_VALUE:
            # The end of a stack trace says what happened, its beginning where it came from.
            return self._checked(f"{value[: MAX_VALUE // 4]}\n{TRUNCATION_MARK}\n{value[-MAX_VALUE * 3 // 4 :]}")
        return self._nested(value, 0, [_ITEMS])

    def _kind(self, key: Any) -> int:
        text = key if isinstance(key, str) else safe_str(key, str)
        if self._policy.is_secret_key(text):
            kind = _SECRET
        elif self._tenants and text in {TENANT_ID, "tenant_id", "tenantId"}:
            kind = _TENANT
        else:
            kind = _STACK if text == EXCEPTION_STACKTRACE else _PLAIN
        if len(self._keys) < _KEPT and len(text) <= _KEPT_LENGTH:
            self._keys[text] = kind
        return kind

    def _secret(self, value: Any) -> Any:
        inside = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(inside, str) and inside in ("", REDACTED):  # nobody else's `==` is asked
            return value
        self._redacted(1)
        return REDACTED

    def _hashed(self, tenant: Any) -> str:
        text = safe_str(tenant, str)
        if _HASHED.fullmatch(text):
            return text
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, key=self._tenant_key).hexdigest() + ":h"

    def _integer(self, value: int) -> int | str:
        digits = str(value) if abs(value) < 10**19 else ""
        if value > 0 and digits and is_card_number(digits):
            self._redacted(1)
            return REDACTED
        return value if -(2**63) <= value < 2**63 else safe_str(value, str)[:MAX_VALUE]

    def _nested(self, value: Any, depth: int, left: list[int]) -> Any:
        """Any value in types that JSON has; `left` is how many more there may be."""
        left[0] -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(str.__str__(value))
        if isinstance(value, int):
            return self._integer(int(value))
        if isinstance(value, float):
            number = float(value)
            return number if math.isfinite(number) else _no_number(number)
        if depth > _DEPTH or left[0] < 0:
            return TRUNCATION_MARK
        try:
            return self._composed(value, depth, left)
        except Exception:  # noqa: BLE001  somebody's object, perhaps changed by another thread meanwhile
            return self.text(safe_str(value))

    def _composed(self, value: Any, depth: int, left: list[int]) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, depth, left)
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(value, depth, left)
        if isinstance(value, enum.Enum):
            return self._nested(value.value, depth + 1, left)
        if isinstance(value, datetime.datetime | datetime.date | datetime.time):
            return value.isoformat()
        if hasattr(value, "__index__"):  # whole numbers of other libraries
            return self._integer(operator.index(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return self.text(bytes(value[:MAX_VALUE]).decode("utf-8", "replace"))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value) if field.repr]
            return self._mapping({name: getattr(value, name) for name in names}, depth, left)
        return self.text(safe_str(value, repr if isinstance(value, BaseException) else str))

    def _mapping(self, value: Mapping[Any, Any], depth: int, left: list[int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in list(value.items()):
            if left[0] <= 0:
                found[TRUNCATION_MARK] = True
                break
            name = self.text(key.decode("latin-1") if isinstance(key, bytes) else safe_str(key, str))
            known = self._keys.get(name)
            if (self._kind(name) if known is None else known) in (_SECRET, _TENANT):
                left[0] -= 1
                found[name] = self._under(name, item)
            else:
                found[name] = self._nested(item, depth + 1, left)
        return found

    def _sequence(self, value: Any, depth: int, left: list[int]) -> list[Any]:
        items = list(value)
        if len(items) == 2 and isinstance(items[0], str | bytes):  # a header, as a pair
            name = items[0].decode("latin-1") if isinstance(items[0], bytes) else items[0]
            if self._policy.is_secret_key(name):
                return [self.text(name), self._under(name, items[1])]
        found = []
        for item in items:
            if left[0] <= 0:
                found.append(TRUNCATION_MARK)
                break
            found.append(self._nested(item, depth + 1, left))
        return found


def _no_number(value: float) -> str:
    """As the JSON form of protobuf has it."""
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
