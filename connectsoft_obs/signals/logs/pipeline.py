"""The log pipeline of a process: rate limit, correlation, sanitizing, formatting, output and export of every record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import time_ns
from typing import Any

from opentelemetry.context import Context, get_current

from connectsoft_obs.context import OPERATION_KEY, SPAN_KEY, ambient_bindings
from connectsoft_obs.context.otel_private import SUPPRESS_INSTRUMENTATION_KEY
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.operations import Operation
from connectsoft_obs.redaction import RedactionPolicy, safe_str
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs.console import Console
from connectsoft_obs.signals.logs.exceptions import exception_fields
from connectsoft_obs.signals.logs.formatter import LineFormatter
from connectsoft_obs.signals.logs.json_renderer import render
from connectsoft_obs.signals.logs.levels import DEBUG, LEVEL_BY_NAME, WARNING, Levels, standard_level
from connectsoft_obs.signals.logs.log_line_template import (
    EncodedFields,
    HexIds,
    LogLineTemplate,
    TraceIds,
    decode_ids,
    span_ids,
)
from connectsoft_obs.signals.logs.profiles import PROFILES
from connectsoft_obs.signals.logs.rate_limit import EventKey, RateLimiter
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
GetCounter = Callable[[Metric, tuple[str, ...]], Count]
"""Returns the function that adds to one series of a metric; called once per series."""

Export = Callable[[int, int, str, str, "TraceIds | None", dict[str, Any]], None]
"""Takes nanoseconds since 1970, level, message, logger, ids, and sanitized attributes under OpenTelemetry names."""

_LEVEL_NAMES = {number: name for name, number in LEVEL_BY_NAME.items()}
_NO_ATTRIBUTES: Mapping[str, Any] = {}


class LogPipeline:
    """Formats and writes log records. Thread-safe; no method raises into the calling application.

    Args:
        settings: levels, profile, redaction and rate limits.
        attributes: the resource.
        get_counter: counters of records by severity, and of redacted values.
        internal_telemetry: counts errors and dropped records.
        output: where lines are written.
    """

    def __init__(
        self,
        settings: Settings,
        attributes: Mapping[str, Any],
        get_counter: GetCounter,
        internal_telemetry: InternalTelemetry,
        output: StdoutWriter,
    ) -> None:
        logger_levels = {name: LEVEL_BY_NAME[level_name] for name, level_name in settings.log_levels.items()}
        self.levels: Levels = Levels(LEVEL_BY_NAME[settings.log_level], logger_levels)
        self.output = output
        self._internal_telemetry = internal_telemetry
        self._counters = {level: get_counter(LOG_RECORDS, (name,)) for level, name in _LEVEL_NAMES.items()}
        self.redaction: RedactionPolicy = settings.redaction_policy()
        self._sanitizer = Sanitizer(settings, get_counter(LOG_REDACTIONS, ()), self.redaction)
        self._rate_limiter = RateLimiter(settings, self._log_summary, output.call_later)
        self._min_limited_level = self._rate_limiter.min_level
        profile = settings.log_profile or ("console" if output.is_terminal else "otel")
        self.is_console: bool = profile == "console"
        self._render: Callable[[dict[str, Any]], bytes] = (
            Console(lambda: output.stream, self.levels.effective_level("") > DEBUG).render
            if self.is_console
            else render
        )
        self._formatter = LineFormatter(PROFILES.get(profile, PROFILES["otel"]), attributes, self._render)
        self._render_template = self._formatter.render_template
        self._exports: tuple[Export, ...] = ()

    def export_to(self, export: Export) -> None:
        """Pass each record to `export` too, except those that exporters log about themselves."""
        self._exports = (*self._exports, export)

    def emit(
        self,
        level: int,
        message: str,
        fields: Mapping[str, Any] | None = None,
        logger: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Log a record in the current context if its level is enabled; `fields` are attributes, in their order."""
        self.emit_with_context(get_current(), level, message, fields, logger, error)

    def emit_with_context(
        self,
        context: Context,
        level: int,
        message: str,
        fields: Mapping[str, Any] | None = None,
        logger: str = "",
        error: BaseException | None = None,
        *,
        now: int | None = None,
    ) -> None:
        """Log a record about an operation that is not current, or no longer; `now` is its time if it is in the past."""
        if level >= self.levels.effective_level(logger):
            self.write(context, level, message, dict(fields) if fields else {}, logger, error, now=now)

    def write(
        self,
        context: Context,
        level: int,
        message: str,
        fields: dict[str, Any],
        logger: str,
        error: BaseException | None,
        *,
        now: int | None = None,
    ) -> None:
        """Log a record whose level is enabled. `fields` may be modified; `now` is nanoseconds since 1970."""
        try:
            now = now or time_ns()  # before the stack trace is formatted, which can take milliseconds
            if level >= self._min_limited_level and not self._rate_limiter.allow(level, logger, message, fields, error):
                self._internal_telemetry.count_dropped(Signal.LOGS, "rate_limited")
                return
            span = context.get(SPAN_KEY)
            ids = None if span is None else span_ids(span)
            operation = context.get(OPERATION_KEY)
            if not isinstance(operation, Operation):
                operation = None
                if bound := ambient_bindings():
                    fields = {**bound, **fields}
            elif (correlation_id := operation.correlation_id or (ids and ids[0])) is not None:
                fields = {CORRELATION_ID: correlation_id, **(operation.bound_attributes or _NO_ATTRIBUTES), **fields}
            elif operation.bound_attributes:
                fields = {**operation.bound_attributes, **fields}
            if error is not None:
                exception = exception_fields(error)
                fields = {
                    f"attr.{key}" if key in exception else key: value for key, value in fields.items()
                } | exception
            sanitizer = self._sanitizer
            if fields:
                sanitizer.sanitize_fields(fields)
            message = sanitizer.sanitize_text(message)
            (self._counters.get(level) or self._counters[standard_level(level)])(1)
            line = self._formatter.build_line(now, level, message, logger, ids, operation, fields)
            self.output.write(self._render(line), level >= WARNING)
            if self._exports:
                self._export(context, now, level, message, logger, ids, fields)
        except Exception as failure:  # noqa: BLE001  a log call never fails the caller
            self._internal_telemetry.record_error("logs", failure)
            self._write_minimal_line(level, message, logger)

    def sanitize(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """A sanitized copy of bound attributes, under their attribute names."""
        return self._sanitizer.sanitize_bound(attributes)

    def compile_line(
        self, message: str, logger: str, attributes: dict[str, Any], number_names: tuple[str, ...] = ()
    ) -> LogLineTemplate:
        """Prepare lines of one kind for `write_templated()`.

        Args:
            message: the message.
            logger: name of the logger.
            attributes: fixed attributes.
            number_names: names of the numeric attributes that differ from line to line.
        """
        sanitized = dict(attributes)
        self._sanitizer.sanitize_fields(sanitized)
        return self._formatter.compile_line(self._sanitizer.sanitize_text(message), logger, sanitized, number_names)

    def is_rate_limited(self, level: int) -> bool:
        """Whether identical records of a level are rate limited; `write_templated()` never does that."""
        return level >= self._min_limited_level

    def encode_fields(self, fields: dict[str, Any]) -> EncodedFields:
        """Encode attributes that many templated lines share: sanitized, and named by this package's vocabulary."""
        return self._formatter.encode_fields(fields)

    def write_templated(  # noqa: PLR0917  positional because it is called for each request
        self,
        template: LogLineTemplate,
        context: Context,
        hex_ids: HexIds,
        level: int,
        now: int,
        operation: Operation,
        numbers: tuple[float, ...],
        shared_fields: EncodedFields,
        extra_fields: dict[str, Any] | None = None,
    ) -> None:
        """Log a record of a template about an operation within a span. It is not rate limited.

        Args:
            template: the fixed fields.
            context: of the operation.
            hex_ids: of the operation's span.
            level: one of the five standard levels.
            now: nanoseconds since 1970.
            operation: what the record is about.
            numbers: values for the template's `number_names`.
            shared_fields: attributes that lines of other templates have too.
            extra_fields: more attributes, sanitized, and named by this package's vocabulary.
        """
        try:
            levels, logger = self.levels, template.logger
            if level < (levels.cached_levels.get(logger) or levels.effective_level(logger)):
                return
            bound = operation.bound_attributes
            if bound is not None:
                bound = dict(bound)
                self._sanitizer.sanitize_fields(bound)
            self._counters[level](1)
            if self._exports and not _is_exporter_log(context, logger):
                ids = decode_ids(hex_ids)
                attributes = {
                    CORRELATION_ID: operation.correlation_id or ids[0],
                    **template.attributes,
                    **template.variable_fields(numbers, extra_fields, shared_fields),
                }
                for export in self._exports:
                    export(now, level, template.message, logger, ids, {**attributes, **(bound or _NO_ATTRIBUTES)})
            operation_info = (operation.correlation_id, operation.name)
            line = partial(
                self._render_template,
                template, now, level, hex_ids, operation_info, numbers, shared_fields, extra_fields, bound,
            )  # fmt: skip
            self.output.write(line, level >= WARNING)
        except Exception as failure:  # noqa: BLE001  logging never fails the request that ends here
            self._internal_telemetry.record_error("logs", failure)

    def count_duplicate(self) -> None:
        """Count a server's record about an exception that is logged already, which is dropped."""
        self._internal_telemetry.count_dropped(Signal.LOGS, "already_reported")

    def flush(self, timeout: float) -> bool:
        """Log pending summaries of rate-limited records and wait until all lines are written; True if they are."""
        self._rate_limiter.flush_summaries(include_current=True)
        return self.output.flush(timeout)

    def stop(self, timeout: float) -> bool:
        """Flush; later records are written synchronously."""
        self._rate_limiter.flush_summaries(include_current=True)
        return self.output.stop(timeout)

    def _export(
        self,
        context: Context,
        now: int,
        level: int,
        message: str,
        logger: str,
        ids: TraceIds | None,
        attributes: dict[str, Any],
    ) -> None:
        if not _is_exporter_log(context, logger):
            for export in self._exports:
                export(now, level, message, logger, ids, attributes)

    def _log_summary(self, event: EventKey, number: int) -> None:
        fields: dict[str, Any] = {LOG_EVENT: event.message, LOG_SUPPRESSED: number}
        if event.error:
            fields[EXCEPTION_TYPE] = event.error
        self.write(Context(), event.level, "identical lines were suppressed", fields, event.logger, None)

    def _write_minimal_line(self, level: int, message: str, logger: str) -> None:
        """Write a line with only message, severity and logger, after an internal error in the processing of its record."""
        text = "connectsoft_obs failed internally; the message of a log record cannot be shown"
        with self._internal_telemetry.guard("logs"):
            text = self.redaction.redact_text(safe_str(message, str)[:1000])
        with self._internal_telemetry.guard("logs"):
            fields = {"message": text, "severity": _LEVEL_NAMES[standard_level(level)].upper()}
            self.output.write(render({**fields, "logger": logger or SCOPE}), True)


def _is_exporter_log(context: Context, logger: str) -> bool:
    """Whether an exporter logged a record about itself. Exporting it would cause another one, endlessly."""
    return logger.startswith("opentelemetry.") or bool(
        SUPPRESS_INSTRUMENTATION_KEY is not None and context.get(SUPPRESS_INSTRUMENTATION_KEY)
    )
