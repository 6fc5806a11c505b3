"""Routes the standard library's `logging`, and the loggers of ASGI servers, to the log pipeline."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry.context import get_current

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.process.uvicorn_internals import is_websocket_access_record
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.exceptions import was_already_logged
from connectsoft_obs.signals.logs.levels import ROOT_LOGGER, Levels
from connectsoft_obs.signals.logs.logger import GetPipeline
from connectsoft_obs.signals.logs.std_streams import writes_to_terminal
from connectsoft_obs.signals.logs.structlog_bridge import pending_structlog_event
from connectsoft_obs.signals.logs.structlog_private import FORMATTER_EVENT_KEYS, FORMATTER_RECORD_ATTRIBUTES
from connectsoft_obs.vocabulary import CODE_STACK

_RECORD_ATTRIBUTES: Final = frozenset(logging.makeLogRecord({}).__dict__)
_OMITTED_ATTRIBUTES: Final = (
    _RECORD_ATTRIBUTES | FORMATTER_RECORD_ATTRIBUTES | FORMATTER_EVENT_KEYS
    | {"message", "asctime", "color_message", "taskName"}
)  # fmt: skip
_MIN_ATTRIBUTES = len(_RECORD_ATTRIBUTES)
_SERVER_PREFIXES: Final = ("uvicorn", "gunicorn", "hypercorn", "_granian", "granian", "asyncio")
_SERVER_LOGGERS: Final = ("uvicorn", "uvicorn.error", "gunicorn.error", "hypercorn.error", "_granian")
_ACCESS_LOGGERS: Final = ("uvicorn.access", "gunicorn.access", "hypercorn.access", "granian.access")
_HTTP_CLIENT_LOGGERS: Final = ("httpx", "httpx2", "azure.core.pipeline.policies.http_logging_policy")
"""They log each outgoing call, with URLs and headers; the client span has the same information without secrets."""
_DEFAULT_ROOT_LEVEL = logging.WARNING
"""The level of a root logger that is not configured."""


class Handler(logging.Handler):
    """Passes log records to the pipeline. Takes no lock, because the pipeline is thread-safe."""

    def __init__(self, get_pipeline: GetPipeline) -> None:
        super().__init__()
        self._get_pipeline = get_pipeline

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter and emit a record."""
        passed: Any = self.filter(record)  # since Python 3.12 a record, which may replace the original one
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record with the fields of `extra=`. Never raises."""
        try:
            self._write(record)
        except Exception as error:  # noqa: BLE001  a log call never fails the caller
            record_internal_error("logs", error)

    def _write(self, record: logging.LogRecord) -> None:
        pipeline, name = self._get_pipeline(), record.name
        if record.levelno < pipeline.levels.effective_level(name):
            return
        error = record.exc_info[1] if record.exc_info else None
        if name.startswith(_SERVER_PREFIXES):
            if was_already_logged(record):
                pipeline.count_duplicate()
                return
            if is_websocket_access_record(name, record.msg):
                return
        if (event := pending_structlog_event(record.msg)) is not None:
            pipeline.write(get_current(), record.levelno, event.message, event.fields, name, event.error or error)
            return
        fields: dict[str, Any] = {}
        if len(record.__dict__) > _MIN_ATTRIBUTES:
            fields = {key: value for key, value in record.__dict__.items() if key not in _OMITTED_ATTRIBUTES}
        if record.stack_info:
            fields[CODE_STACK] = record.stack_info
        pipeline.write(get_current(), record.levelno, _message(record), fields, name, error)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  arguments do not match the format
        return f"{safe_str(record.msg, str)} {safe_str(record.args)}"


@dataclass(slots=True)
class StdlibTakeover:
    """Changes that `install_handlers()` made to loggers, to log and to undo them."""

    removed: list[tuple[logging.Logger, logging.Handler]] = field(default_factory=list)
    added: list[tuple[logging.Logger, logging.Handler]] = field(default_factory=list)
    previous_levels: dict[logging.Logger, int] = field(default_factory=dict)
    silenced: list[logging.Logger] = field(default_factory=list)

    @property
    def replaced_handlers(self) -> list[str]:
        """Logger and class of each handler that was removed."""
        return sorted({f"{logger.name}:{type(handler).__name__}" for logger, handler in self.removed})

    def undo(self) -> None:
        """Restore handlers, levels and propagation."""
        for logger, handler in self.added:
            logger.removeHandler(handler)
        for logger, handler in self.removed:
            logger.addHandler(handler)
        for logger, level in self.previous_levels.items():
            logger.setLevel(level)
        for logger in self.silenced:
            logger.propagate = True


def install_handlers(get_pipeline: GetPipeline, levels: Levels) -> StdlibTakeover:
    """Route the loggers of the standard library and of ASGI servers to the pipeline. Idempotent.

    Handlers that write to standard output or error are removed, because each record would be written twice. Other
    handlers stay, and so do levels that are set. Access loggers of servers are silenced, and so are uvicorn's records of
    WebSocket handshakes: the access log of this package replaces them. HTTP clients that log each call with its query log
    only warnings, unless a level is set for them.
    """
    takeover = StdlibTakeover()
    root = logging.getLogger()
    access_loggers = [logging.getLogger(name) for name in _ACCESS_LOGGERS]
    # Collected before any logger is changed: gunicorn's and uvicorn's loggers share one list of handlers.
    takeover.removed = [
        (logger, handler)
        for logger in dict.fromkeys([root, *_existing_loggers(), *access_loggers])
        for handler in logger.handlers
        if writes_to_terminal(handler)
    ]
    for logger, handler in takeover.removed:
        logger.removeHandler(handler)
    without_handler = {logger for logger, _ in takeover.removed} | {
        logger for logger in map(logging.getLogger, _SERVER_LOGGERS) if not logger.handlers
    }
    installed = next((handler for handler in root.handlers if isinstance(handler, Handler)), None)
    pipeline_handler = installed or Handler(get_pipeline)
    # A logger that does not propagate gets the handler itself: the root's other handlers must not see its records.
    not_propagating = [logger for logger in without_handler - {root, *access_loggers} if not logger.propagate]
    for logger in [root, *not_propagating]:
        if pipeline_handler not in logger.handlers:
            logger.addHandler(pipeline_handler)
            takeover.added.append((logger, pipeline_handler))
    if any(logger is root for logger, _ in takeover.added) and root.level == _DEFAULT_ROOT_LEVEL:
        takeover.previous_levels[root] = root.level
        root.setLevel(levels.effective_level(ROOT_LOGGER))
    takeover.silenced = [logger for logger in access_loggers if logger.propagate]
    for logger in takeover.silenced:
        logger.propagate = False
    takeover.previous_levels = {**apply_levels(levels), **takeover.previous_levels}
    return takeover


def apply_levels(levels: Levels) -> dict[logging.Logger, int]:
    """Set the levels that are configured by name on the standard library's loggers.

    Returns the previous levels of the loggers that changed.
    """
    previous: dict[logging.Logger, int] = {}
    configured = levels.explicit_levels()
    for logger in map(logging.getLogger, _HTTP_CLIENT_LOGGERS):
        if logger.level == logging.NOTSET and logger.name not in configured:
            previous[logger] = logger.level
            logger.setLevel(logging.WARNING)
    for name, level in configured.items():
        logger = logging.getLogger(None if name == ROOT_LOGGER else name)
        if name != ROOT_LOGGER and logger.level != level:
            previous[logger] = logger.level
            logger.setLevel(level)
    return previous


def _existing_loggers() -> list[logging.Logger]:
    loggers = list(logging.root.manager.loggerDict.values())
    return [logger for logger in loggers if isinstance(logger, logging.Logger)]
