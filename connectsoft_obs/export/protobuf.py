"""Encodes the protobuf wire format as far as OTLP needs it: fields and OpenTelemetry attribute values.

Follows opentelemetry-proto 1.x (`common.proto`). The first argument of each function is the field number. Measured in
tests/bench/span.py: a span costs an eighteenth of what the official encoder costs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_pack_double = struct.Struct("<d").pack
_pack_fixed64 = struct.Struct("<Q").pack
_pack_fixed32 = struct.Struct("<I").pack
_BYTES = [bytes((number,)) for number in range(128)]
_CONTINUED_BYTES = [bytes((number | 128,)) for number in range(128)]

MAX_SHORT_TEXT = 100
"""Bytes of text below which all lengths fit into one byte, for keys of up to 20 bytes; longer text is encoded in general."""

_MAX_CACHED_KEYS = 4096
"""Limit of cached attribute keys; a service has dozens."""


def varint(number: int) -> bytes:
    """An unsigned 64-bit number as base 128 varint."""
    if number < 128:
        return _BYTES[number]
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def tag(field: int, wire_type: int) -> bytes:
    """Tag of a field: field number and wire type."""
    return varint(field << 3 | wire_type)


def length_delimited(field: int, content: bytes) -> bytes:
    """A length-delimited field (wire type 2): bytes, string or message."""
    return b"%b%b%b" % (tag(field, 2), varint(len(content)), content)


def text(field: int, content: str) -> bytes:
    """A string field. Invalid Unicode is replaced, because a collector rejects the complete batch otherwise."""
    return length_delimited(field, content.encode("utf-8", "replace"))


def fixed64(field: int, number: int) -> bytes:
    """A fixed64 field: unsigned number or nanoseconds."""
    return tag(field, 1) + _pack_fixed64(number)


def double(field: int, number: float) -> bytes:
    """A double field."""
    return tag(field, 1) + _pack_double(number)


def fixed32(field: int, number: int) -> bytes:
    """A fixed32 field."""
    return tag(field, 5) + _pack_fixed32(number)


def integer(field: int, number: int) -> bytes:
    """An int64 field; a negative number takes ten bytes."""
    return tag(field, 0) + varint(number & 0xFFFFFFFFFFFFFFFF)


def any_value(content: Any) -> bytes:
    """An AnyValue message: string, bool, number, bytes, list or mapping of these. None is the empty message."""
    if isinstance(content, str):
        return text(1, content)
    if isinstance(content, bool):
        return b"\x10\x01" if content else b"\x10\x00"
    if isinstance(content, int):
        if not -(2**63) <= content < 2**63:
            return text(1, str(content))
        return integer(3, content)
    if isinstance(content, float):
        return double(4, content)
    if content is None:
        return b""
    if isinstance(content, bytes):
        return length_delimited(7, content)
    if isinstance(content, Mapping):
        return length_delimited(6, b"".join(key_value(1, str(key), item) for key, item in content.items()))
    if isinstance(content, Sequence):
        return length_delimited(5, b"".join(length_delimited(1, any_value(item)) for item in content))
    return text(1, str(content))


def key_value(field: int, key: str, content: Any) -> bytes:
    """A KeyValue message."""
    return length_delimited(field, text(1, key) + length_delimited(2, any_value(content)))


class KeyPrefix:
    """The encoded bytes before the value of one attribute in one field, by size of the value.

    `texts` is indexed by the length of the text in bytes, below MAX_SHORT_TEXT, `ints` by the bytes of the number.
    """

    __slots__ = ("double", "false", "ints", "texts", "true")

    def __init__(self, field: int, key: str) -> None:
        encoded_key = text(1, key)

        def prefix(size: int) -> bytes:
            """Everything before an AnyValue of `size` bytes."""
            length = varint(size)
            return tag(field, 2) + varint(len(encoded_key) + 1 + len(length) + size) + encoded_key + b"\x12" + length

        self.texts: list[bytes] = [prefix(2 + size) + b"\x0a" + varint(size) for size in range(MAX_SHORT_TEXT)]
        self.ints: list[bytes] = [prefix(1 + size) + b"\x18" for size in range(10)]
        self.double: bytes = prefix(9) + b"\x21"
        self.true: bytes = prefix(2) + b"\x10\x01"
        self.false: bytes = prefix(2) + b"\x10\x00"


_key_cache: dict[int, dict[str, KeyPrefix]] = {}


def attributes(field: int, attributes: Mapping[str, Any]) -> bytes:
    """KeyValue messages of a mapping, in its order.

    Short strings, small integers, floats and bools need one look-up and one concatenation each (tests/bench/span.py).
    """
    parts: list[bytes] = []
    keys = _key_cache.setdefault(field, {})
    for key, content in attributes.items():
        prefix = keys.get(key) or _cache_key(field, key)
        kind = type(content)
        if kind is str:
            raw = content.encode("utf-8", "replace")
            parts.append(prefix.texts[len(raw)] + raw if len(raw) < MAX_SHORT_TEXT else key_value(field, key, content))
        elif kind is int and 0 <= content < 2**63:
            # One look-up for a status code, two for a port or a length.
            if content < 128:
                parts.append(prefix.ints[1] + _BYTES[content])
            elif content < 16384:
                parts.append(prefix.ints[2] + _CONTINUED_BYTES[content & 127] + _BYTES[content >> 7])
            else:
                encoded = varint(content)
                parts.append(prefix.ints[len(encoded)] + encoded)
        elif kind is float:
            parts.append(prefix.double + _pack_double(content))
        elif kind is bool:
            parts.append(prefix.true if content else prefix.false)
        else:
            parts.append(key_value(field, key, content))
    return b"".join(parts)


def key_prefix(field: int, name: str) -> KeyPrefix:
    """The cached prefix of one attribute."""
    return _key_cache.setdefault(field, {}).get(name) or _cache_key(field, name)


def _cache_key(field: int, key: str) -> KeyPrefix:
    prefix = KeyPrefix(field, key)
    keys = _key_cache.setdefault(field, {})
    if len(keys) < _MAX_CACHED_KEYS and len(key) < 128:
        keys[key] = prefix
    return prefix


def join(field: int, messages: Iterable[bytes]) -> bytes:
    """A repeated message field."""
    return b"".join([length_delimited(field, message) for message in messages])
