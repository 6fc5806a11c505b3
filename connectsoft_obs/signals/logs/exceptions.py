"""What a log line says about an exception, and which exceptions have been said already."""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar
from typing import Any, Final

from connectsoft_obs.operations import exception_name
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.vocabulary import EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE

logged_exceptions: Final[ContextVar[BaseException | None]] = ContextVar("connectsoft-obs-reported", default=None)
"""The exception that an adapter has told about before raising it on; the server's own line about it says nothing new."""

logged_by_loop_handler: Final[ContextVar[bool]] = ContextVar("connectsoft-obs-loop-told", default=False)
"""Whether an event loop's handler runs after our line about the same thing; asyncio's own would be its second."""


def exception_fields(error: BaseException) -> dict[str, Any]:
    """Type, message and stack trace of an exception, as OpenTelemetry names them (semantic conventions 1.44.0)."""
    return {
        EXCEPTION_TYPE: exception_name(error),
        EXCEPTION_MESSAGE: safe_str(error, str),
        EXCEPTION_STACKTRACE: safe_str(error, _stack),
    }


def _stack(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def was_reported(record: logging.LogRecord) -> bool:
    """Whether a server's, or asyncio's, line is about something that was told already.

    Asked once for an exception, because then it is told: whatever holds it holds the frames it passed through, and all
    that is in them.
    """
    if record.name == "asyncio":
        return logged_by_loop_handler.get()
    told = logged_exceptions.get()
    if told is None or record.levelno < logging.ERROR:
        return False
    if record.exc_info:
        same = record.exc_info[1] is told
    else:  # Granian's has the stack trace in its text, whose end is the exception itself
        same = safe_str(record.msg, str).rstrip().endswith(f"{type(told).__name__}: {safe_str(told, str)}".rstrip())
    if same:
        logged_exceptions.set(None)
    return same
