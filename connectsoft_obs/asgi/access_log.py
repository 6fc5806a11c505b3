"""Log records of a request: one access log line, and one record of the exception that ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from connectsoft_obs.asgi.bindings import BoundSeries
from connectsoft_obs.signals.logs import LogLineTemplate, logged_exception
from connectsoft_obs.signals.logs.levels import ERROR, INFO, LEVEL_BY_NAME, WARNING
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    EVENT_NAME,
    EVENT_REQUEST_EXCEPTION,
    HTTP_REQUEST_BODY_SIZE,
    HTTP_RESPONSE_BODY_SIZE,
    HTTP_ROUTE,
    REQUEST_DURATION,
    STREAM_DURATION,
    URL_PATH,
    Outcome,
    Signal,
    duration_attribute,
)

if TYPE_CHECKING:
    from connectsoft_obs.asgi.request import HttpRequest

ACCESS_LOGGER = "connectsoft_obs.access"
EXCEPTION_LOGGER = "connectsoft_obs.request"

_EVENT = {EVENT_NAME: EVENT_REQUEST_EXCEPTION}
_MAX_PATH_LENGTH = 256
_RATIO_BOUND = 1 << 64
"""Number of values of the eight bytes of a trace id that the ratio sampler compares."""


class AccessLog:
    """Writes the access log of one Telemetry. Thread-safe.

    Success and client aborts are INFO, rejected requests have the level `access_log_4xx_level`, failures are ERROR. A
    request slower than `access_log_slow` is at least WARN. Sampling drops only lines of successful requests that are not
    slow. It decides by the trace id like OpenTelemetry's ratio sampler, so that all services keep the same requests.
    With `access_log_url_path`, which is on by default in development, lines without a route have the redacted path; on a
    terminal all lines have it.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        settings = telemetry.settings
        self._logs = telemetry.logs
        self._internal_telemetry = telemetry.internal_telemetry
        logs_all = settings.access_log == "all" and not settings.disabled
        logs_errors = settings.access_log == "errors" and not settings.disabled
        levels = {
            Outcome.SUCCESS: INFO,
            Outcome.REJECTED: LEVEL_BY_NAME[settings.access_log_4xx_level],
            Outcome.FAILURE: ERROR,
            Outcome.TIMEOUT: ERROR,
            Outcome.ABORTED: INFO,
        }
        self._levels: dict[Outcome, int] = {
            outcome: level for outcome, level in levels.items() if logs_all or (logs_errors and outcome.good is False)
        }
        is_off = settings.access_log == "off" or settings.disabled
        self._slow_threshold = None if is_off else settings.access_log_slow
        ratio = settings.access_log_sample
        bound = min(round(ratio * _RATIO_BOUND), _RATIO_BOUND - 1)
        self._logs_url_path = settings.access_log_url_path
        if self._logs_url_path is None:
            self._logs_url_path = telemetry.identity.environment == "development"
        self._logs_each_path = self._logs_url_path and telemetry.logs.is_console
        self._sampling_bound = None if ratio >= 1.0 else bound.to_bytes(8, "big")

    def write(self, request: HttpRequest, series: BoundSeries, seconds: float, now_ns: int) -> None:
        """Write the line of a finished request. It contains neither path parameters nor the query.

        The path of a request without a route, or of each request on a terminal, is written if that is enabled.
        """
        template = series.log_template or self._compile_template(series, request)
        level = series.log_level
        if self._slow_threshold is not None and seconds >= self._slow_threshold and not request.stream_kind:
            level = max(level, WARNING)
        elif not level:
            return
        elif (
            self._sampling_bound is not None
            and request.outcome is Outcome.SUCCESS
            and request.span.ids[8:16] >= self._sampling_bound
        ):
            self._internal_telemetry.count_dropped(Signal.LOGS, "sampled")
            return
        fields: dict[str, Any] | None = None
        if request.request_body_size:
            fields = {HTTP_REQUEST_BODY_SIZE: request.request_body_size}
        if request.message_counts is not None:
            fields = {**(fields or {}), **request.message_counts}
        if self._logs_url_path and (self._logs_each_path or HTTP_ROUTE not in series.log_fields):
            path: str = self._logs.sanitize({URL_PATH: request.path})[URL_PATH]
            fields = {**(fields or {}), URL_PATH: path[:_MAX_PATH_LENGTH]}
        numbers = (seconds, request.response_body_size)
        write, client_fields = self._logs.write_templated, request.client.log_fields
        write(template, request.context, request.hex_ids, level, now_ns, request, numbers, client_fields, fields)

    def write_exception(self, request: HttpRequest, error: BaseException, now_ns: int) -> None:
        """Write the record of the exception that ended a request, with ids and time of the access log line."""
        logged_exception.set(error)  # the server logs it too
        self._logs.emit_with_context(
            request.context, ERROR, "unhandled exception in a request", _EVENT, EXCEPTION_LOGGER, error, now=now_ns
        )

    def _compile_template(self, series: BoundSeries, request: HttpRequest) -> LogLineTemplate:
        assert request.outcome is not None
        series.log_level = self._levels.get(request.outcome, 0)
        duration = duration_attribute(STREAM_DURATION.name if request.stream_kind else REQUEST_DURATION.name)
        numbers = (duration, HTTP_RESPONSE_BODY_SIZE)
        series.log_template = self._logs.compile_line(series.log_message, ACCESS_LOGGER, series.log_fields, numbers)
        return series.log_template
