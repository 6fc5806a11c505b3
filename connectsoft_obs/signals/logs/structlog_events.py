"""Converts structlog event dictionaries to message, fields and exception."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.levels import INFO, LEVEL_ALIASES
from connectsoft_obs.signals.logs.structlog_private import FORMATTER_EVENT_KEYS
from connectsoft_obs.vocabulary import CODE_STACK, EXCEPTION_STACKTRACE

_REDUNDANT_KEYS: Final = ("timestamp", "level", "level_number", "logger", *FORMATTER_EVENT_KEYS)
"""Keys that structlog's processors add and for which a line has fields of its own."""


class StructlogEvent(NamedTuple):
    """An event of structlog in the form that `LogPipeline.emit()` takes."""

    level: int
    message: str
    fields: dict[str, Any]
    error: BaseException | None


def from_event_dict(method: str, event: Mapping[str, Any]) -> StructlogEvent:
    """Convert an event dictionary. Keys that a line has by other means are removed.

    Args:
        method: name of the log method that was called.
        event: the event dictionary.
    """
    fields = dict(event)
    message = fields.pop("event", "")
    level_name = fields.get("level")
    level = LEVEL_ALIASES.get(
        level_name.lower() if isinstance(level_name, str) else method, LEVEL_ALIASES.get(method, INFO)
    )
    for key in _REDUNDANT_KEYS:
        fields.pop(key, None)
    if method == "exception" and "exc_info" not in fields and "exception" not in fields:
        fields["exc_info"] = True
    stack = fields.pop("stack", None)
    error = pop_exception(fields)
    if stack is not None:
        fields[CODE_STACK] = stack
    if error is None and method == "exception":
        error = sys.exc_info()[1]
    if isinstance(fields.get("exception"), str | list | dict):  # rendered by a processor of structlog
        rendered = fields.pop("exception")
        if error is None and isinstance(rendered, str):
            fields[EXCEPTION_STACKTRACE] = rendered
        elif error is None:
            fields["exception"] = rendered
    return StructlogEvent(level, message if isinstance(message, str) else safe_str(message, str), fields, error)


def format_message(message: Any, args: tuple[Any, ...]) -> str:
    """A message with its positional arguments; message and arguments side by side if they do not match."""
    text = message if isinstance(message, str) else safe_str(message, str)
    try:
        return text % (args[0] if len(args) == 1 and isinstance(args[0], dict) and args[0] else args)
    except Exception:  # noqa: BLE001  arguments do not match the format, or their __str__ raises
        return f"{text} {safe_str(args)}"


def pop_exception(fields: dict[str, Any]) -> BaseException | None:
    """Remove `exc_info` and `stack_info` from the fields.

    Returns the exception that `exc_info` refers to: itself, that of its triple, or the one being handled. A stack that
    `stack_info` asks for is added to the fields.
    """
    if _is_true(fields.pop("stack_info", None)):
        fields[CODE_STACK] = "".join(traceback.format_stack(sys._getframe(3)))  # noqa: SLF001
    exc_info = fields.pop("exc_info", None)
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple) and len(exc_info) == 3:
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if _is_true(exc_info) else None


def _is_true(value: Any) -> bool:
    """Truth of a value; False for one whose `__bool__` raises, such as an array."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001  an object of the application
        return False
