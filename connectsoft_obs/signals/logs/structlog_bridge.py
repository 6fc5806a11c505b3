"""Routes every logger of `structlog.get_logger()` to the log pipeline, in any configuration of structlog.

If structlog is not configured, its loggers become `Logger`. If the application configured it, its wrapper class and
processors stay and only the last processor is replaced: output that would have been printed goes to the pipeline;
output for the standard library still reaches other handlers of the standard library, and reaches the pipeline as
fields.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import structlog

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.levels import INFO, LEVEL_ALIASES
from connectsoft_obs.signals.logs.logger import GetPipeline, Logger
from connectsoft_obs.signals.logs.std_streams import is_standard_stream
from connectsoft_obs.signals.logs.structlog_events import StructlogEvent, from_event_dict
from connectsoft_obs.signals.logs.structlog_private import output_file


class _RenderedEvent(NamedTuple):
    rendered: Any
    event: Mapping[str, Any]
    method: str


_pending_event: ContextVar[_RenderedEvent | None] = ContextVar("connectsoft-obs-structlog", default=None)


class NamedLogger:
    """The logger that structlog wraps when this package configures it.

    It has a name, and log methods for the case that another wrapper class is configured later.
    """

    def __init__(self, get_pipeline: GetPipeline, name: str) -> None:
        self.name = name
        self._get_pipeline = get_pipeline

    def __getattr__(self, method: str) -> Callable[..., None]:
        """Any log method."""
        level = LEVEL_ALIASES.get(method)
        if level is None:
            raise AttributeError(method)
        method_level = level

        def log(event: Any = "", **fields: Any) -> None:
            record = from_event_dict(method, {**fields, "event": event})
            self._get_pipeline().emit(method_level, record.message, record.fields, self.name, record.error)

        return log


class _TerminalProcessor:
    """Last processor of a chain: emits the event to the pipeline instead of printing it.

    Args:
        get_pipeline: returns the current log pipeline.
        renderer: the application's last processor, if its output is still needed; None drops the event afterwards.
    """

    def __init__(self, get_pipeline: GetPipeline, renderer: Any = None) -> None:
        self._get_pipeline = get_pipeline
        self._renderer = renderer
        self.replaces_output = renderer is None

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        name = getattr(logger, "name", "")
        if isinstance(event, Mapping):
            name = event.get("logger") or name
            record = from_event_dict(method, event)
        else:
            record = StructlogEvent(LEVEL_ALIASES.get(method, INFO), safe_str(event, str), {}, None)
        self._get_pipeline().emit(record.level, record.message, record.fields, str(name or ""), record.error)
        if self._renderer is None:
            raise structlog.DropEvent
        return self._renderer(logger, method, event)


class _PassThroughRenderer:
    """Last processor of a chain that ends in the standard library: keeps the event for this package's log handler."""

    def __init__(self, renderer: Any) -> None:
        self._renderer = renderer

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        event_copy = dict(event) if isinstance(event, Mapping) else None
        result = self._renderer(logger, method, event)
        if event_copy is not None:
            rendered = result
            if isinstance(result, tuple):  # ProcessorFormatter.wrap_for_formatter
                rendered = result[0][0] if result and result[0] else None
            elif isinstance(result, dict):  # render_to_log_kwargs
                rendered = result.get("msg")
            _pending_event.set(_RenderedEvent(rendered, event_copy, method))
        return result


def pending_structlog_event(rendered: Any) -> StructlogEvent | None:
    """The event from which structlog has just rendered the message of a standard library record, if it has."""
    pending = _pending_event.get()
    if pending is None or pending.rendered is not rendered:
        return None
    _pending_event.set(None)
    return from_event_dict(pending.method, pending.event)


def take_over_structlog(get_pipeline: GetPipeline) -> str | None:
    """Route structlog's loggers to the pipeline. Idempotent.

    Returns a description of the output that was replaced, if any was.
    """
    if not structlog.is_configured():
        _configure(get_pipeline)
        return None
    config = structlog.get_config()
    processors = config["processors"]
    if config["wrapper_class"] is _wrap_logger or any(
        isinstance(processor, _TerminalProcessor | _PassThroughRenderer) for processor in processors
    ):
        return None
    chain = list(processors)
    renderer = chain.pop() if chain else _return_event
    last_processor = _create_last_processor(get_pipeline, config["logger_factory"], renderer)
    chain.append(last_processor)
    if isinstance(processors, list):
        processors[:] = chain  # existing loggers refer to this list
    else:
        structlog.configure(processors=chain)
    replaces_output = isinstance(last_processor, _TerminalProcessor) and last_processor.replaces_output
    return f"structlog:{_name_of(renderer)}" if replaces_output else None


def _create_last_processor(
    get_pipeline: GetPipeline, logger_factory: Any, renderer: Any
) -> _TerminalProcessor | _PassThroughRenderer:
    try:
        logger = logger_factory()
    except Exception:  # noqa: BLE001  a factory of the application that requires arguments
        return _TerminalProcessor(get_pipeline, renderer)
    if isinstance(logger, logging.Logger):
        return _PassThroughRenderer(renderer)
    writes_file = isinstance(logger, structlog.PrintLogger | structlog.WriteLogger | structlog.BytesLogger)
    if isinstance(logger, NamedLogger) or (writes_file and is_standard_stream(output_file(logger))):
        return _TerminalProcessor(get_pipeline)
    return _TerminalProcessor(get_pipeline, renderer)


def _configure(get_pipeline: GetPipeline) -> None:
    structlog.configure(
        processors=[],
        wrapper_class=_wrap_logger,  # type: ignore[arg-type]  # structlog calls it as the class that is usually here
        logger_factory=_LoggerFactory(get_pipeline),
        context_class=dict,
        cache_logger_on_first_use=True,
    )


class _LoggerFactory:
    """Creates the logger of structlog.get_logger("name")."""

    def __init__(self, get_pipeline: GetPipeline) -> None:
        self.get_pipeline = get_pipeline

    def __call__(self, *names: Any) -> NamedLogger:
        return NamedLogger(self.get_pipeline, str(names[0]) if names else "")


def _wrap_logger(logger: Any, processors: Any, context: Any) -> Any:
    if isinstance(logger, NamedLogger):
        return Logger(logger._get_pipeline, logger.name, dict(context), processors)  # noqa: SLF001
    # structlog.wrap_logger() around a logger of the application, with the configured wrapper class as the default.
    factory = structlog.get_config()["logger_factory"]
    if not isinstance(factory, _LoggerFactory):
        return structlog.BoundLogger(logger, processors, context)
    return Logger(factory.get_pipeline, str(getattr(logger, "name", "")), dict(context), processors)


def _return_event(_logger: Any, _method: str, event: Any) -> Any:
    return event


def _name_of(processor: Any) -> str:
    return str(getattr(processor, "__name__", type(processor).__name__))
