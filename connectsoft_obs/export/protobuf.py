"""Protobuf, as far as OTLP needs it: the wire form of fields, and of OpenTelemetry's attribute values.

Follows opentelemetry-proto 1.x (`common.proto`). Field numbers are the first argument everywhere. Measured in
tests/bench/span.py: a span costs an eighteenth of the official encoder, under the same GIL.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_pack_double = struct.Struct("<d").pack
_pack_fixed64 = struct.Struct("<Q").pack
_pack_fixed32 = struct.Struct("<I").pack
_ONE_BYTE = [bytes((number,)) for number in range(128)]
_TWO_LOW = [bytes((number | 128,)) for number in range(128)]

SHORT = 100
"""Bytes of text whose lengths all fit into one byte each, key included, for keys up to 20 bytes; others take the long way."""

_KEYS = 4096
"""Attribute keys that are remembered; a service has dozens."""


def varint(number: int) -> bytes:
    """A number from 0 to 2**64-1 in base 128, least significant group first."""
    if number < 128:
        return _ONE_BYTE[number]
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def tag(field: int, wire_type: int) -> bytes:
    """What stands before a field's value: its number and how to read it."""
    return varint(field << 3 | wire_type)


def length_delimited(field: int, content: bytes) -> bytes:
    """Bytes, text or a message, with its length before it."""
    return b"%b%b%b" % (tag(field, 2), varint(len(content)), content)


def text(field: int, content: str) -> bytes:
    """A string; what is not valid Unicode is replaced, because one bad byte makes a collector refuse a whole batch."""
    return length_delimited(field, content.encode("utf-8", "replace"))


def fixed64(field: int, number: int) -> bytes:
    """An unsigned 64-bit number, or the bits of a time in nanoseconds."""
    return tag(field, 1) + _pack_fixed64(number)


def double(field: int, number: float) -> bytes:
    """A 64-bit floating point number."""
    return tag(field, 1) + _pack_double(number)


def fixed32(field: int, number: int) -> bytes:
    """An unsigned 32-bit number."""
    return tag(field, 5) + _pack_fixed32(number)


def integer(field: int, number: int) -> bytes:
    """A number of varying length; a negative one takes ten bytes, as protobuf has it."""
    return tag(field, 0) + varint(number & 0xFFFFFFFFFFFFFFFF)


def value(content: Any) -> bytes:
    """An AnyValue message: text, number, truth, bytes, list or mapping of these; None is the empty message."""
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
        return length_delimited(6, b"".join(pair(1, str(key), item) for key, item in content.items()))
    if isinstance(content, Sequence):
        return length_delimited(5, b"".join(length_delimited(1, value(item)) for item in content))
    return text(1, str(content))


def pair(field: int, key: str, content: Any) -> bytes:
    """A KeyValue message."""
    return length_delimited(field, text(1, key) + length_delimited(2, value(content)))


class KeyPrefix:
    """What stands before the values of one attribute in one field: all of it but the value is known beforehand.

    `texts` by the length of the text in bytes, up to SHORT; `ints` by the bytes of the number; then the value itself.
    """

    __slots__ = ("double", "false", "ints", "texts", "true")

    def __init__(self, field: int, key: str) -> None:
        plain = text(1, key)

        def before(size: int) -> bytes:
            """Everything before an AnyValue of `size` bytes."""
            length = varint(size)
            return tag(field, 2) + varint(len(plain) + 1 + len(length) + size) + plain + b"\x12" + length

        self.texts: list[bytes] = [before(2 + size) + b"\x0a" + varint(size) for size in range(SHORT)]
        self.ints: list[bytes] = [before(1 + size) + b"\x18" for size in range(10)]
        self.double: bytes = before(9) + b"\x21"
        self.true: bytes = before(2) + b"\x10\x01"
        self.false: bytes = before(2) + b"\x10\x00"


_keys: dict[int, dict[str, KeyPrefix]] = {}


def attributes(field: int, attributes: Mapping[str, Any]) -> bytes:
    """KeyValue messages of a mapping, in its order.

    Short strings, small numbers, floats and truth cost a look-up and a concatenation each (tests/bench/span.py).
    """
    parts: list[bytes] = []
    keys = _keys.setdefault(field, {})
    for key, content in attributes.items():
        known = keys.get(key) or _met(field, key)
        kind = type(content)
        if kind is str:
            raw = content.encode("utf-8", "replace")
            parts.append(known.texts[len(raw)] + raw if len(raw) < SHORT else pair(field, key, content))
        elif kind is int and 0 <= content < 65536:
            # One look-up for a status, two for a port or a length.
            if content < 128:
                parts.append(known.ints[1] + _ONE_BYTE[content])
            elif content < 16384:
                parts.append(known.ints[2] + _TWO_LOW[content & 127] + _ONE_BYTE[content >> 7])
            else:
                parts.append(known.ints[3] + varint(content))
        elif kind is float:
            parts.append(known.double + _pack_double(content))
        elif kind is bool:
            parts.append(known.true if content else known.false)
        else:
            parts.append(pair(field, key, content))
    return b"".join(parts)


def key(field: int, name: str) -> KeyPrefix:
    """What stands before the values of one attribute."""
    return _keys.setdefault(field, {}).get(name) or _met(field, name)


def _met(field: int, key: str) -> KeyPrefix:
    made = KeyPrefix(field, key)
    keys = _keys.setdefault(field, {})
    if len(keys) < _KEYS and len(key) < 128:
        keys[key] = made
    return made


def join(field: int, messages: Iterable[bytes]) -> bytes:
    """A repeated message field."""
    return b"".join([length_delimited(field, message) for message in messages])
