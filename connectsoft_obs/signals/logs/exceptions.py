"""Exception fields of a log record, and detection of exceptions that are logged already."""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar
from typing import Any, Final

from connectsoft_obs.operations import exception_name
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.vocabulary import EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE

logged_exception: Final[ContextVar[BaseException | None]] = ContextVar("connectsoft-obs-logged-exception", default=None)
"""The exception that an adapter logged before re-raising it; the server's own record about it is a duplicate."""

logged_by_loop_handler: Final[ContextVar[bool]] = ContextVar("connectsoft-obs-logged-by-loop-handler", default=False)
"""True while the previous handler of an event loop runs; the record of asyncio's logger is a duplicate then."""


def exception_fields(error: BaseException) -> dict[str, Any]:
    """Type, message and stack trace of an exception, as OpenTelemetry names them (semantic conventions 1.44.0)."""
    return {
        EXCEPTION_TYPE: exception_name(error),
        EXCEPTION_MESSAGE: safe_str(error, str),
        EXCEPTION_STACKTRACE: safe_str(error, _format_stack),
    }


def _format_stack(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def was_already_logged(record: logging.LogRecord) -> bool:
    """Whether a record of a server or of asyncio is about an exception that is logged already.

    Returns True once per exception and then releases it, because a reference to an exception keeps the frames of its
    traceback, and all their local variables, alive.
    """
    if record.name == "asyncio":
        return logged_by_loop_handler.get()
    error = logged_exception.get()
    if error is None or record.levelno < logging.ERROR:
        return False
    if record.exc_info:
        is_same = record.exc_info[1] is error
    else:  # Granian puts the stack trace into the message, which ends with the exception
        is_same = (
            safe_str(record.msg, str).rstrip().endswith(f"{type(error).__name__}: {safe_str(error, str)}".rstrip())
        )
    if is_same:
        logged_exception.set(None)
    return is_same
