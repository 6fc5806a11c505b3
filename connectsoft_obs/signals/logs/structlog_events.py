"""What structlog's processors make of an event, as the stream takes it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.levels import INFO, LEVEL_ALIASES
from connectsoft_obs.vocabulary import CODE_STACK, EXCEPTION_STACKTRACE

_THEIRS: Final = ("timestamp", "level", "level_number", "logger", "_record", "_from_structlog")
"""What structlog's processors put on an event that our lines say already."""


class StructlogEvent(NamedTuple):
    """An event of structlog as the stream takes it."""

    level: int
    message: str
    fields: dict[str, Any]
    error: BaseException | None


def from_event_dict(method: str, event: Mapping[str, Any]) -> StructlogEvent:
    """An event dictionary as message, fields and exception, without what our lines say already."""
    fields = dict(event)
    message = fields.pop("event", "")
    word = fields.get("level")
    level = LEVEL_ALIASES.get(word.lower() if isinstance(word, str) else method, LEVEL_ALIASES.get(method, INFO))
    for name in _THEIRS:
        fields.pop(name, None)
    if method == "exception" and "exc_info" not in fields and "exception" not in fields:
        fields["exc_info"] = True
    stack = fields.pop("stack", None)
    error = exception_of(fields)
    if stack is not None:
        fields[CODE_STACK] = stack
    if error is None and method == "exception":
        error = sys.exc_info()[1]
    if isinstance(fields.get("exception"), str | list | dict):  # rendered by structlog's own processors
        text = fields.pop("exception")
        if error is None and isinstance(text, str):
            fields[EXCEPTION_STACKTRACE] = text
        elif error is None:
            fields["exception"] = text
    return StructlogEvent(level, message if isinstance(message, str) else safe_str(message, str), fields, error)


def formatted(message: Any, args: tuple[Any, ...]) -> str:
    """A message with its positional arguments; both, side by side, where they do not fit."""
    text = message if isinstance(message, str) else safe_str(message, str)
    try:
        return text % (args[0] if len(args) == 1 and isinstance(args[0], dict) and args[0] else args)
    except Exception:  # noqa: BLE001  arguments that do not fit, or that have no text
        return f"{text} {safe_str(args)}"


def exception_of(fields: dict[str, Any]) -> BaseException | None:
    """Take what `exc_info=` and `stack_info=` mean out of the fields: an exception, its triple, or the present one."""
    if _wanted(fields.pop("stack_info", None)):
        fields[CODE_STACK] = "".join(traceback.format_stack(sys._getframe(3)))  # noqa: SLF001
    given = fields.pop("exc_info", None)
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple) and len(given) == 3:
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if _wanted(given) else None


def _wanted(switch: Any) -> bool:
    """Whether a switch is on; something that cannot say, such as an array, is no switch."""
    try:
        return bool(switch)
    except Exception:  # noqa: BLE001  somebody's object
        return False
