"""A line as bytes: one JSON object and a newline, whatever is in it, and never longer than a line may be."""

from __future__ import annotations

from typing import Any, Final

import orjson

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.sanitizer import TRUNCATION_MARK

MAX_LINE: Final = 65536
"""Bytes of a line, its newline included; ContainerLogV2's limit."""

_NEWLINE = orjson.OPT_APPEND_NEWLINE
_ANYTHING = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS


def render(line: dict[str, Any]) -> bytes:
    """The line as JSON. Nothing raises."""
    try:
        content = orjson.dumps(line, safe_str, _NEWLINE)
    except Exception:  # noqa: BLE001  a key that is no text, half of a surrogate pair in a key
        content = orjson.dumps({_text(key): value for key, value in line.items()}, safe_str, _ANYTHING)
    return content if len(content) <= MAX_LINE else _fitted(line, len(content) - MAX_LINE)


def _fitted(line: dict[str, Any], excess: int) -> bytes:
    """The line with its largest values cut until it fits, and those that still do not left out."""
    sizes = {key: len(orjson.dumps(value, safe_str, _ANYTHING)) for key, value in line.items()}
    fitted = dict(line)
    for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if excess <= 0:
            break
        value = line[key]
        text = value if isinstance(value, str) else orjson.dumps(value, safe_str, _ANYTHING).decode("utf-8", "replace")
        # A character takes six bytes at most.
        fitted[key] = text[: max(0, sizes[key] - excess - len(TRUNCATION_MARK) - 2) // 6] + TRUNCATION_MARK
        excess -= sizes[key] - len(orjson.dumps(fitted[key]))
    content = orjson.dumps({_text(key)[:256]: value for key, value in fitted.items()}, safe_str, _ANYTHING)
    if len(content) <= MAX_LINE:
        return content
    kept = dict(list(fitted.items())[:100])
    return orjson.dumps(
        {_text(key)[:256]: _text(value)[:64] for key, value in kept.items()} | {TRUNCATION_MARK: True}, None, _NEWLINE
    )


def _text(key: Any) -> str:
    return safe_str(key, str).encode("utf-8", "replace").decode()
