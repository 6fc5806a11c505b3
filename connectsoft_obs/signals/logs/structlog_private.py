"""Everything that this package uses of structlog beyond its documented API.

tests/logs/test_structlog_private.py checks each name against the installed version. Where a name is missing, the value
here leads to slower or more careful code, never to an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

CONTEXT_VARS: Final[Mapping[str, Any] | bool] = getattr(structlog.contextvars, "_CONTEXT_VARS", True)
"""Context variables that `structlog.contextvars.bind_contextvars()` has created. While it is empty, nothing is bound
and no look-up is needed. True if this version has no such mapping."""

FORMATTER_RECORD_ATTRIBUTES: Final = frozenset({"_logger", "_name"})
"""Attributes that `ProcessorFormatter.wrap_for_formatter` sets on a record of the standard library."""

FORMATTER_EVENT_KEYS: Final = frozenset({"_record", "_from_structlog"})
"""Keys that `ProcessorFormatter` adds to an event dictionary."""


def output_file(logger: Any) -> Any:
    """The file object of a PrintLogger, WriteLogger or BytesLogger; None if it cannot be determined."""
    return getattr(logger, "_file", None)
