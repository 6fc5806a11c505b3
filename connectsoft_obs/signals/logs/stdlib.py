"""What others say: the standard library's `logging`, and the servers' own loggers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry.context import get_current

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.exceptions import was_reported
from connectsoft_obs.signals.logs.levels import ROOT, Levels
from connectsoft_obs.signals.logs.logger import Current
from connectsoft_obs.signals.logs.std_streams import writes_to_terminal
from connectsoft_obs.signals.logs.structlog_bridge import pending_structlog_event
from connectsoft_obs.vocabulary import CODE_STACK

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message", "asctime", "color_message", "taskName", "_logger", "_name", "_from_structlog", "_record",
}  # fmt: skip
_FEWEST = len(logging.makeLogRecord({}).__dict__)
_SERVERS: Final = ("uvicorn", "gunicorn", "hypercorn", "_granian", "granian", "asyncio")
_ERRORS: Final = ("uvicorn", "uvicorn.error", "gunicorn.error", "hypercorn.error", "_granian")
_ACCESS: Final = ("uvicorn.access", "gunicorn.access", "hypercorn.access", "granian.access")
_CHATTY: Final = ("httpx", "httpx2", "azure.core.pipeline.policies.http_logging_policy")
"""Write a line for each outgoing call, whole URLs and headers in it; the client span says the same without secrets."""
_UNCONFIGURED = logging.WARNING
"""The level of a root logger that nobody configured."""


class Handler(logging.Handler):
    """The root logger's way into the stream. Takes no lock: the stream needs none."""

    def __init__(self, stream: Current) -> None:
        super().__init__()
        self._stream = stream

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter and emit a record."""
        passed: Any = self.filter(record)  # since 3.12 a record, which may be another one
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record with what `extra=` put on it. Never raises."""
        try:
            self._write(record)
        except Exception as failure:  # noqa: BLE001  a log call never fails the caller
            record_internal_error("logs", failure)

    def _write(self, record: logging.LogRecord) -> None:
        stream, name = self._stream(), record.name
        if record.levelno < stream.levels.effective_level(name):
            return
        error = record.exc_info[1] if record.exc_info else None
        if name.startswith(_SERVERS) and was_reported(record):
            stream.count_duplicate()
            return
        if (said := pending_structlog_event(record.msg)) is not None:
            stream.write(get_current(), record.levelno, said.message, said.fields, name, said.error or error)
            return
        fields: dict[str, Any] = {}
        if len(record.__dict__) > _FEWEST:
            fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.stack_info:
            fields[CODE_STACK] = record.stack_info
        stream.write(get_current(), record.levelno, _message(record), fields, name, error)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  arguments that do not fit the message
        return f"{safe_str(record.msg, str)} {safe_str(record.args)}"


@dataclass(slots=True)
class StdlibTakeover:
    """What a take-over changed, for the line that says so, and to undo it."""

    removed: list[tuple[logging.Logger, logging.Handler]] = field(default_factory=list)
    added: list[tuple[logging.Logger, logging.Handler]] = field(default_factory=list)
    levels: dict[logging.Logger, int] = field(default_factory=dict)
    silenced: list[logging.Logger] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Loggers and handlers that were replaced."""
        return sorted({f"{logger.name}:{type(handler).__name__}" for logger, handler in self.removed})

    def undo(self) -> None:
        """Put everything back."""
        for logger, handler in self.added:
            logger.removeHandler(handler)
        for logger, handler in self.removed:
            logger.addHandler(handler)
        for logger, level in self.levels.items():
            logger.setLevel(level)
        for logger in self.silenced:
            logger.propagate = True


def install_handlers(stream: Current, levels: Levels) -> StdlibTakeover:
    """Send the standard library's loggers and the servers' through the stream; doing it again changes nothing.

    Handlers that write to standard output and error are replaced, because every line would be there twice; other
    handlers stay, and so do levels that somebody set. The servers' access logs end: ours says the same; HTTP clients
    that write a line for each call, query and all, write warnings only, unless somebody set a level for them.
    """
    done = StdlibTakeover()
    root = logging.getLogger()
    access = [logging.getLogger(name) for name in _ACCESS]
    # All are looked at before any is changed: gunicorn's and uvicorn's loggers share one list of handlers.
    done.removed = [
        (logger, handler)
        for logger in dict.fromkeys([root, *_existing(), *access])
        for handler in logger.handlers
        if writes_to_terminal(handler)
    ]
    for logger, handler in done.removed:
        logger.removeHandler(handler)
    joining = {logger for logger, _ in done.removed} | {
        one for one in map(logging.getLogger, _ERRORS) if not one.handlers
    }
    ours = next((one for one in root.handlers if isinstance(one, Handler)), None) or Handler(stream)
    # A logger that hands nothing on gets our handler itself: what it keeps from the root's handlers stays from them.
    for logger in [root, *(one for one in joining - {root, *access} if not one.propagate)]:
        if ours not in logger.handlers:
            logger.addHandler(ours)
            done.added.append((logger, ours))
    if any(logger is root for logger, _ in done.added) and root.level == _UNCONFIGURED:
        done.levels[root] = root.level
        root.setLevel(levels.effective_level(ROOT))
    done.silenced = [logger for logger in access if logger.propagate]
    for logger in done.silenced:
        logger.propagate = False
    done.levels |= {logger: before for logger, before in apply(levels).items() if logger not in done.levels}
    return done


def apply(levels: Levels) -> dict[logging.Logger, int]:
    """Give standard loggers the levels that were set for them by name; gives back what they had."""
    before: dict[logging.Logger, int] = {}
    for logger in map(logging.getLogger, _CHATTY):
        if logger.level == logging.NOTSET and logger.name not in levels.own():
            before[logger] = logger.level
            logger.setLevel(logging.WARNING)
    for name, level in levels.own().items():
        logger = logging.getLogger(None if name == ROOT else name)
        if name != ROOT and logger.level != level:
            before[logger] = logger.level
            logger.setLevel(level)
    return before


def _existing() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.values())
    return [logger for logger in known if isinstance(logger, logging.Logger)]
