"""The one stream of a process: every line, whoever says it, goes through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import time_ns
from typing import Any

from opentelemetry.context import Context, get_current

from connectsoft_obs.context import OPERATION, SPAN, ambient_bindings
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.operations import Operation
from connectsoft_obs.redaction import RedactionPolicy, safe_str
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs.console import Console
from connectsoft_obs.signals.logs.exceptions import exception_fields
from connectsoft_obs.signals.logs.formatter import LineFormatter
from connectsoft_obs.signals.logs.json_renderer import render
from connectsoft_obs.signals.logs.levels import LEVEL_BY_NAME, WARNING, Levels, standard
from connectsoft_obs.signals.logs.line_template import EncodedFields, HexIds, LineTemplate, TraceIds, ids_in, ids_of
from connectsoft_obs.signals.logs.profiles import PROFILES
from connectsoft_obs.signals.logs.rate_limit import Event, RateLimiter
from connectsoft_obs.signals.logs.sanitizer import Sanitizer
from connectsoft_obs.signals.logs.stdout_writer import StdoutWriter
from connectsoft_obs.vocabulary import (
    CORRELATION_ID,
    EXCEPTION_TYPE,
    LOG_EVENT,
    LOG_RECORDS,
    LOG_REDACTIONS,
    LOG_SUPPRESSED,
    SCOPE,
    Metric,
    Signal,
)

Count = Callable[[float], None]
Counter = Callable[[Metric, tuple[str, ...]], Count]
"""Gives the function that adds to one series; asked once for each series."""

Export = Callable[[Context, int, int, str, str, "TraceIds | None", dict[str, Any]], None]
"""Takes context, nanoseconds, level, message, logger, ids and clean attributes under their OpenTelemetry names."""

_WORDS = {number: name for name, number in LEVEL_BY_NAME.items()}
_NONE: Mapping[str, Any] = {}


class LogPipeline:
    """Makes and writes lines. Thread-safe; no method raises into whoever logs.

    Args:
        settings: levels, profile, what is secret, what is too much.
        attributes: the resource.
        counter: counts lines by severity, and what was redacted.
        ledger: told what fails and what is held back.
        output: where lines go.
    """

    def __init__(
        self,
        settings: Settings,
        attributes: Mapping[str, Any],
        counter: Counter,
        internal_telemetry: InternalTelemetry,
        output: StdoutWriter,
    ) -> None:
        own = {name: LEVEL_BY_NAME[word] for name, word in settings.log_levels.items()}
        self.levels: Levels = Levels(LEVEL_BY_NAME[settings.log_level], own)
        self.output = output
        self._internal_telemetry = internal_telemetry
        self._counts = {level: counter(LOG_RECORDS, (word,)) for level, word in _WORDS.items()}
        self.redaction: RedactionPolicy = settings.redaction_policy()
        self._cleaning = Sanitizer(settings, counter(LOG_REDACTIONS, ()), self.redaction)
        self._rate_limiter = RateLimiter(settings, self._summarise, output.later)
        self._limited = self._rate_limiter.lowest
        name = settings.log_profile or ("console" if output.terminal else "otel")
        self._render: Callable[[dict[str, Any]], bytes] = (
            Console(output.terminal).render if name == "console" else render
        )
        self._layout = LineFormatter(PROFILES.get(name, PROFILES["otel"]), attributes, self._render)
        self._said = self._layout.format_event
        self._exports: tuple[Export, ...] = ()

    def export_to(self, export: Export) -> None:
        """Hand each line to `export` too."""
        self._exports = (*self._exports, export)

    def emit(
        self,
        level: int,
        message: str,
        fields: Mapping[str, Any] | None = None,
        logger: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Write a line, if its level is high enough; `fields` are attributes, in their order."""
        self.emit_with_context(get_current(), level, message, fields, logger, error)

    def emit_with_context(
        self,
        context: Context,
        level: int,
        message: str,
        fields: Mapping[str, Any] | None = None,
        logger: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Write a line about an operation that is not, or no longer, current."""
        if level >= self.levels.effective_level(logger):
            self.write(context, level, message, dict(fields) if fields else {}, logger, error)

    def write(
        self,
        context: Context,
        level: int,
        message: str,
        given: dict[str, Any],
        logger: str,
        error: BaseException | None,
    ) -> None:
        """Write a line whose level was looked at already; `given` is the stream's to change."""
        try:
            if level >= self._limited and not self._rate_limiter.allow(level, logger, message, given, error):
                self._internal_telemetry.count_dropped(Signal.LOGS, "rate_limited")
                return
            span = context.get(SPAN)
            ids = None if span is None else ids_of(span)
            operation = context.get(OPERATION)
            if not isinstance(operation, Operation):
                operation = None
                if facts := ambient_bindings():
                    given = {**facts, **given}
            elif (correlation := operation.correlation_id or (ids and ids[0])) is not None:
                given = {CORRELATION_ID: correlation, **(operation.bound_attributes or _NONE), **given}
            elif operation.bound_attributes:
                given = {**operation.bound_attributes, **given}
            if error is not None:
                said = exception_fields(error)
                given = {f"attr.{key}" if key in said else key: value for key, value in given.items()} | said
            cleaning = self._cleaning
            if given:
                cleaning.fields(given)
            message = cleaning.text(message)
            (self._counts.get(level) or self._counts[standard(level)])(1)
            now = time_ns()
            line = self._layout.line(now, level, message, logger, ids, operation, given)
            self.output.write(self._render(line), level >= WARNING)
            for export in self._exports:
                export(context, now, level, message, logger, ids, given)
        except Exception as failure:  # noqa: BLE001  a log call never fails the caller
            self._internal_telemetry.record_error("logs", failure)
            self._last_resort(level, message, logger)

    def clean(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What is bound, without secrets, under its attribute names."""
        return self._cleaning.attributes(facts)

    def compile_line(
        self, message: str, logger: str, attributes: dict[str, Any], numbers: tuple[str, ...] = ()
    ) -> LineTemplate:
        """Lay out what lines of one kind have in common, for `fill`; `numbers` are names of numbers that each has."""
        clean = dict(attributes)
        self._cleaning.fields(clean)
        return self._layout.form(self._cleaning.text(message), logger, clean, numbers)

    def is_rate_limited(self, level: int) -> bool:
        """Whether identical lines of a level are held back beyond a number, which `fill` does not do."""
        return level >= self._limited

    def fragment(self, fields: dict[str, Any]) -> EncodedFields:
        """Lay out fields that many lines end with, clean ones under names of ours, for `fill`."""
        return self._layout.fragment(fields)

    def write_templated(  # noqa: PLR0917  positional on purpose, as all that is called for each request
        self,
        form: LineTemplate,
        context: Context,
        digits: HexIds,
        level: int,
        now: int,
        operation: Operation,
        numbers: tuple[float, ...],
        around: EncodedFields,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Write a line of a form about an operation within a span.

        Such a line is one an operation, and is never held back.

        Args:
            form: what all such lines say.
            context: the operation's.
            digits: of the operation's span.
            level: one of the five.
            now: when, in nanoseconds since 1970.
            operation: what it is about.
            numbers: those that the form names.
            around: what it has in common with lines of other forms.
            more: what only this line says, under names of ours, clean.
        """
        try:
            levels, logger = self.levels, form.logger
            if level < (levels.known.get(logger) or levels.effective_level(logger)):
                return
            facts = operation.bound_attributes
            if facts is not None:
                facts = dict(facts)
                self._cleaning.fields(facts)
            self._counts[level](1)
            if self._exports:
                ids = ids_in(digits)
                own = {
                    CORRELATION_ID: operation.correlation_id or ids[0],
                    **form.attributes,
                    **form.own(numbers, more, around),
                }
                for export in self._exports:
                    export(context, now, level, form.message, form.logger, ids, {**own, **(facts or _NONE)})
            about = (operation.correlation_id, operation.name)
            line = partial(self._said, form, now, level, digits, about, numbers, around, more, facts)
            self.output.write(line, level >= WARNING)
        except Exception as failure:  # noqa: BLE001  ours; the request is over and stays as it was
            self._internal_telemetry.record_error("logs", failure)

    def count_duplicate(self) -> None:
        """Count a server's line about an exception that was told already, in place of writing it."""
        self._internal_telemetry.count_dropped(Signal.LOGS, "already_reported")

    def flush(self, timeout: float) -> bool:
        """Tell what was held back and wait until all is written; True when nothing waits any more."""
        self._rate_limiter.flush_summaries(whole=True)
        return self.output.flush(timeout)

    def stop(self, timeout: float) -> bool:
        """As `flush`, and from now on write lines at once."""
        self._rate_limiter.flush_summaries(whole=True)
        return self.output.stop(timeout)

    def _summarise(self, event: Event, number: int) -> None:
        fields: dict[str, Any] = {LOG_EVENT: event.message, LOG_SUPPRESSED: number}
        if event.error:
            fields[EXCEPTION_TYPE] = event.error
        self.write(Context(), event.level, "identical lines were suppressed", fields, event.logger, None)

    def _last_resort(self, level: int, message: str, logger: str) -> None:
        """What was said, without what made saying it fail."""
        try:
            fields = {"message": safe_str(message, str)[:1000], "severity": _WORDS[standard(level)].upper()}
            self.output.write(render({**fields, "logger": logger or SCOPE}), True)
        except Exception as failure:  # noqa: BLE001  nothing is left to try
            self._internal_telemetry.record_error("logs", failure)
