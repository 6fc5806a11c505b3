"""What the log says of a request: one access line, and one record of the exception that ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from connectsoft_obs.asgi.bindings import BoundSeries
from connectsoft_obs.signals.logs import LineTemplate, logged_exceptions
from connectsoft_obs.signals.logs.levels import ERROR, INFO, LEVEL_BY_NAME, WARNING
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    EVENT_NAME,
    EVENT_REQUEST_EXCEPTION,
    HTTP_REQUEST_BODY_SIZE,
    HTTP_RESPONSE_BODY_SIZE,
    REQUEST_DURATION,
    STREAM_DURATION,
    Outcome,
    Signal,
)

if TYPE_CHECKING:
    from connectsoft_obs.asgi.request import HttpRequest

ACCESS = "connectsoft_obs.access"
REQUEST = "connectsoft_obs.request"

_EVENT = {EVENT_NAME: EVENT_REQUEST_EXCEPTION}
_ALL_IDS = 1 << 64


class AccessLog:
    """Writes the lines of requests of one Telemetry. Thread-safe.

    Success and what the client broke off are INFO, what it did wrong is what `access_log_4xx_level` says, our failures
    are ERROR; a request slower than `access_log_slow` is at least a WARN. Sampling holds back only lines of quick
    successes, the same requests in every service: it decides by the trace id as OpenTelemetry's ratio sampler does.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        settings = telemetry.settings
        self._logs = telemetry.logs
        self._internal_telemetry = telemetry.internal_telemetry
        everything = settings.access_log == "all" and not settings.disabled
        levels = {
            Outcome.SUCCESS: INFO,
            Outcome.REJECTED: LEVEL_BY_NAME[settings.access_log_4xx_level],
            Outcome.FAILURE: ERROR,
            Outcome.TIMEOUT: ERROR,
            Outcome.ABORTED: INFO,
        }
        self._levels: dict[Outcome, int] = {
            outcome: level
            for outcome, level in levels.items()
            if everything or (outcome.good is False and settings.access_log == "errors" and not settings.disabled)
        }
        slow = settings.access_log_slow
        self._slow = None if settings.access_log == "off" or settings.disabled else slow
        sample = settings.access_log_sample
        self._below = None if sample >= 1.0 else min(round(sample * _ALL_IDS), _ALL_IDS - 1).to_bytes(8, "big")

    def access(self, exchange: HttpRequest, recorded: BoundSeries, seconds: float, now: int) -> None:
        """The one line of a request, whatever became of it; never with path parameters or a query."""
        form = recorded.line or self._lay_out(recorded, exchange)
        level = recorded.level
        if self._slow is not None and seconds >= self._slow and not exchange.stream:
            level = max(level, WARNING)
        elif not level:
            return
        elif self._below is not None and exchange.outcome is Outcome.SUCCESS and exchange.span.ids[8:16] >= self._below:
            self._internal_telemetry.count_dropped(Signal.LOGS, "sampled")
            return
        more: dict[str, Any] | None = None
        if exchange.received:
            more = {HTTP_REQUEST_BODY_SIZE: exchange.received}
        if exchange.counts is not None:
            more = {**(more or {}), **exchange.counts}
        numbers = (seconds, exchange.sent)
        fill, around = self._logs.write_templated, exchange.caller.line
        fill(form, exchange.context, exchange.digits, level, now, exchange, numbers, around, more)

    def exception(self, exchange: HttpRequest, error: BaseException) -> None:
        """The one record of an exception that ended a request, with the request's ids."""
        logged_exceptions.set(error)  # the server will say it again
        self._logs.emit_with_context(
            exchange.context, ERROR, "unhandled exception in a request", _EVENT, REQUEST, error
        )

    def _lay_out(self, recorded: BoundSeries, exchange: HttpRequest) -> LineTemplate:
        """What the lines of one kind of request have in common; once for each kind."""
        assert exchange.outcome is not None
        recorded.level = self._levels.get(exchange.outcome, 0)
        duration = STREAM_DURATION.name if exchange.stream else REQUEST_DURATION.name
        numbers = (duration, HTTP_RESPONSE_BODY_SIZE)
        recorded.line = self._logs.compile_line(recorded.message, ACCESS, recorded.fields, numbers)
        return recorded.line
