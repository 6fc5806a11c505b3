"""Renders a log line as one JSON object and a newline, of bounded length."""

from __future__ import annotations

from typing import Any, Final

import orjson

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.sanitizer import TRUNCATION_MARK

MAX_LINE: Final = 65536
"""Maximum bytes of a line, including its newline; the limit of ContainerLogV2 in Azure Monitor."""

_MAX_KEY_LENGTH = 256
_MAX_FIELDS_OF_SHORTENED_LINE = 100
_NEWLINE = orjson.OPT_APPEND_NEWLINE
_NEWLINE_AND_ANY_KEY = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS


def render(line: dict[str, Any]) -> bytes:
    """The line as JSON, at most MAX_LINE bytes. Never raises."""
    try:
        content = orjson.dumps(line, safe_str, _NEWLINE)
    except Exception:  # noqa: BLE001  a key that is not a string, or a lone surrogate in a key
        content = orjson.dumps({_text(key): value for key, value in line.items()}, safe_str, _NEWLINE_AND_ANY_KEY)
    return content if len(content) <= MAX_LINE else _shorten(line, len(content) - MAX_LINE)


def _shorten(line: dict[str, Any], excess: int) -> bytes:
    """Truncate the largest values until the line fits; if that is not enough, drop fields."""
    sizes = {key: len(orjson.dumps(value, safe_str, _NEWLINE_AND_ANY_KEY)) for key, value in line.items()}
    shortened = dict(line)
    for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if excess <= 0:
            break
        value = line[key]
        text = (
            value
            if isinstance(value, str)
            else orjson.dumps(value, safe_str, _NEWLINE_AND_ANY_KEY).decode("utf-8", "replace")
        )
        # An escaped character takes at most six bytes.
        shortened[key] = text[: max(0, sizes[key] - excess - len(TRUNCATION_MARK) - 2) // 6] + TRUNCATION_MARK
        excess -= sizes[key] - len(orjson.dumps(shortened[key]))
    content = orjson.dumps(
        {_text(key)[:_MAX_KEY_LENGTH]: value for key, value in shortened.items()}, safe_str, _NEWLINE_AND_ANY_KEY
    )
    if len(content) <= MAX_LINE:
        return content
    first_fields = dict(list(shortened.items())[:_MAX_FIELDS_OF_SHORTENED_LINE])
    return orjson.dumps(
        {_text(key)[:_MAX_KEY_LENGTH]: _text(value)[:64] for key, value in first_fields.items()}
        | {TRUNCATION_MARK: True},
        None,
        _NEWLINE,
    )


def _text(key: Any) -> str:
    return safe_str(key, str).encode("utf-8", "replace").decode()
