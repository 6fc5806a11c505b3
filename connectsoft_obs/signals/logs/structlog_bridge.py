"""structlog: every logger of `structlog.get_logger()` ends in the stream, whoever configured it.

Where nobody did, its loggers become ours. Where the application did, its wrapper class and processors stay and only the
end of the chain changes: what would have been rendered and printed goes into the stream; what goes to the standard
library still goes there, for whatever handlers wait for it, and joins the stream as the fields it was made of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import structlog

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.levels import INFO, LEVEL_ALIASES
from connectsoft_obs.signals.logs.logger import Current, Logger
from connectsoft_obs.signals.logs.std_streams import is_standard
from connectsoft_obs.signals.logs.structlog_events import StructlogEvent, from_event_dict


class _Passed(NamedTuple):
    rendered: Any
    event: Mapping[str, Any]
    method: str


_passed: ContextVar[_Passed | None] = ContextVar("connectsoft-obs-structlog", default=None)


class NamedLogger:
    """What our configuration wraps: a name, and somewhere for events to end if another wrapper class is put around it."""

    def __init__(self, stream: Current, name: str) -> None:
        self.name = name
        self._stream = stream

    def __getattr__(self, method: str) -> Callable[..., None]:
        """Any log method."""
        level = LEVEL_ALIASES.get(method)
        if level is None:
            raise AttributeError(method)
        number = level

        def say(event: Any = "", **fields: Any) -> None:
            found = from_event_dict(method, {**fields, "event": event})
            self._stream().emit(number, found.message, found.fields, self.name, found.error)

        return say


class _TerminalProcessor:
    """The last processor of a chain whose output would have been printed; with `after`, one whose output goes on."""

    def __init__(self, stream: Current, after: Any = None) -> None:
        self._stream = stream
        self._after = after
        self.alone = after is None

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        if isinstance(event, Mapping):
            name = event.get("logger") or getattr(logger, "name", "")
            found = from_event_dict(method, event)
        else:
            name, found = (
                getattr(logger, "name", ""),
                StructlogEvent(LEVEL_ALIASES.get(method, INFO), safe_str(event, str), {}, None),
            )
        self._stream().emit(found.level, found.message, found.fields, str(name or ""), found.error)
        if self._after is None:
            raise structlog.DropEvent
        return self._after(logger, method, event)


class _PassThroughRenderer:
    """The last processor of a chain that ends in the standard library: remembers what it rendered, for our handler."""

    def __init__(self, last: Any) -> None:
        self._last = last

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        kept = dict(event) if isinstance(event, Mapping) else None
        result = self._last(logger, method, event)
        if kept is not None:
            rendered = result
            if isinstance(result, tuple):  # ProcessorFormatter.wrap_for_formatter
                rendered = result[0][0] if result and result[0] else None
            elif isinstance(result, dict):  # render_to_log_kwargs
                rendered = result.get("msg")
            _passed.set(_Passed(rendered, kept, method))
        return result


def pending_structlog_event(rendered: Any) -> StructlogEvent | None:
    """The event behind the message of a standard record, where structlog has just made it of one."""
    passed = _passed.get()
    if passed is None or passed.rendered is not rendered:
        return None
    _passed.set(None)
    return from_event_dict(passed.method, passed.event)


def take_over_structlog(stream: Current) -> str | None:
    """Let structlog's loggers end in the stream; doing it again changes nothing.

    Gives back what was put out of its place, if anything was.
    """
    if not structlog.is_configured():
        _configure(stream)
        return None
    config = structlog.get_config()
    processors = config["processors"]
    if config["wrapper_class"] is _wrapper or any(
        isinstance(one, _TerminalProcessor | _PassThroughRenderer) for one in processors
    ):
        return None
    chain = list(processors)
    last = chain.pop() if chain else _unrendered
    end = _ending(stream, config["logger_factory"], last)
    chain.append(end)
    if isinstance(processors, list):
        processors[:] = chain  # loggers that were made before hold this very list
    else:
        structlog.configure(processors=chain)
    return f"structlog:{_name(last)}" if isinstance(end, _TerminalProcessor) and end.alone else None


def _ending(stream: Current, factory: Any, last: Any) -> _TerminalProcessor | _PassThroughRenderer:
    try:
        made = factory()
    except Exception:  # noqa: BLE001  one that wants to be asked differently
        return _TerminalProcessor(stream, last)
    if isinstance(made, logging.Logger):
        return _PassThroughRenderer(last)
    prints = isinstance(made, structlog.PrintLogger | structlog.WriteLogger | structlog.BytesLogger)
    if isinstance(made, NamedLogger) or (prints and is_standard(getattr(made, "_file", None))):
        return _TerminalProcessor(stream)
    return _TerminalProcessor(stream, last)


def _configure(stream: Current) -> None:
    structlog.configure(
        processors=[],
        wrapper_class=_wrapper,  # type: ignore[arg-type]  # structlog calls it as the class it usually is
        logger_factory=_Factory(stream),
        context_class=dict,
        cache_logger_on_first_use=True,
    )


class _Factory:
    """Names for structlog.get_logger("name")."""

    def __init__(self, stream: Current) -> None:
        self.stream = stream

    def __call__(self, *names: Any) -> NamedLogger:
        return NamedLogger(self.stream, str(names[0]) if names else "")


def _wrapper(logger: Any, processors: Any, context: Any) -> Any:
    if isinstance(logger, NamedLogger):
        return Logger(logger._stream, logger.name, dict(context), processors)  # noqa: SLF001
    # structlog.wrap_logger() around something of the application's, with our wrapper class for want of another.
    stream = structlog.get_config()["logger_factory"]
    current = stream.stream if isinstance(stream, _Factory) else None
    if current is None:
        return structlog.BoundLogger(logger, processors, context)
    return Logger(current, str(getattr(logger, "name", "")), dict(context), processors)


def _unrendered(_logger: Any, _method: str, event: Any) -> Any:
    return event


def _name(processor: Any) -> str:
    return str(getattr(processor, "__name__", type(processor).__name__))
