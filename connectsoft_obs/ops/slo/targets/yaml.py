"""YAML as generated files have it: the same bytes for the same content, whatever library is installed.

Mappings, sequences, text, numbers and truth values. Text of several lines is a literal block; text that YAML could take
for something else is in double quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.+-]*(?::[A-Za-z0-9_/.+-]+)*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"})
_SPECIAL = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]')
_BLOCK = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]*")


def dump(content: Any) -> str:
    """A document."""
    return "".join(f"{line}\n" for line in _lines(content))


def _lines(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _entry(f"{_scalar(str(key))}:", value)
    elif _is_sequence(content) and content:
        for value in content:
            first, *rest = list(_lines(value)) if _nested(value) else [_scalar(value)]
            yield f"- {first}"
            yield from (f"  {line}" if line else "" for line in rest)
    else:
        yield _scalar(content)


def _entry(head: str, value: Any) -> Iterator[str]:
    if _nested(value):
        yield head
        yield from (f"  {line}" if line else "" for line in _lines(value))
    elif isinstance(value, str) and _is_block(value):
        yield f"{head} |-"
        yield from (f"  {line}" if line else "" for line in value.split("\n"))
    else:
        yield f"{head} {_scalar(value)}"


def _nested(value: Any) -> bool:
    return (isinstance(value, Mapping) or _is_sequence(value)) and bool(value)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_block(text: str) -> bool:
    return (
        ("\n" in text or '"' in text)
        and text[0] not in " \n"
        and text[-1] != "\n"
        and _BLOCK.fullmatch(text) is not None
    )


def _scalar(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if _is_sequence(value):
        return "[]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, str):
        return _quoted(value)
    written = json.dumps(value)
    # A power of ten without a point is text to YAML 1.1.
    return (
        written.replace("e", ".0e") if isinstance(value, float) and "e" in written and "." not in written else written
    )


def _quoted(text: str) -> str:
    """A double-quoted scalar. Unlike JSON it writes no surrogate pairs, which YAML does not know."""
    return '"' + _SPECIAL.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    known = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r"}
    return known.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
