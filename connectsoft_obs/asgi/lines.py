"""What the log says of a request: one access line, and one record of the exception that ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from connectsoft_obs.asgi.recorded import Recorded
from connectsoft_obs.signals.logs import Form, reported
from connectsoft_obs.signals.logs.levels import ERROR, INFO, NAMES, WARNING
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
    from connectsoft_obs.asgi.addresses import Caller
    from connectsoft_obs.asgi.exchange import Exchange

ACCESS = "connectsoft_obs.access"
REQUEST = "connectsoft_obs.request"

_EVENT = {EVENT_NAME: EVENT_REQUEST_EXCEPTION}
_ALL_IDS = 1 << 64


class Lines:
    """Writes the lines of requests of one Telemetry. Thread-safe.

    Success and what the client broke off are INFO, what it did wrong is what `access_log_rejected` says, our failures
    are ERROR; a request slower than `access_log_slow` is at least a WARN. Sampling holds back only lines of quick
    successes, the same requests in every service: it decides by the trace id as OpenTelemetry's ratio sampler does.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        settings = telemetry.settings
        self._logs = telemetry.logs
        self._ledger = telemetry.ledger
        everything = settings.access_log == "all" and not settings.disabled
        levels = {
            Outcome.SUCCESS: INFO,
            Outcome.REJECTED: NAMES[settings.access_log_rejected],
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
        self._slow_ns = None if slow is None or settings.access_log == "off" or settings.disabled else int(slow * 1e9)
        self._bound = None if settings.access_log_sample >= 1.0 else round(settings.access_log_sample * _ALL_IDS)

    def access(self, exchange: Exchange, recorded: Recorded, caller: Caller, elapsed_ns: int) -> None:
        """The one line of a request, whatever became of it; never with path parameters or a query."""
        outcome = exchange.outcome
        assert outcome is not None
        level = self._levels.get(outcome, 0)
        slow = self._slow_ns is not None and elapsed_ns >= self._slow_ns and not exchange.stream
        if slow:
            level = max(level, WARNING)
        elif not level:
            return
        elif self._bound is not None and outcome is Outcome.SUCCESS and self._left_out(exchange.span.trace_id):
            self._ledger.dropped(Signal.LOGS, "sampled")
            return
        duration = STREAM_DURATION.name if exchange.stream else REQUEST_DURATION.name
        own: dict[str, Any] = {duration: elapsed_ns / 1e9, HTTP_RESPONSE_BODY_SIZE: exchange.sent}
        if exchange.received:
            own[HTTP_REQUEST_BODY_SIZE] = exchange.received
        if exchange.counts:
            own |= exchange.counts
        own |= caller.line
        form = recorded.line or self._form(recorded)
        self._logs.fill(form, exchange.context, level, exchange.wall_ns + elapsed_ns, exchange, own)

    def exception(self, exchange: Exchange, error: BaseException) -> None:
        """The one record of an exception that ended a request, with the request's ids."""
        reported.set(error)  # the server will say it again
        self._logs.emit_in(exchange.context, ERROR, "unhandled exception in a request", _EVENT, REQUEST, error)

    def _left_out(self, trace_id: int) -> bool:
        return self._bound is not None and trace_id & (_ALL_IDS - 1) >= self._bound

    def _form(self, recorded: Recorded) -> Form:
        recorded.line = self._logs.form(recorded.message, ACCESS, recorded.fields)
        return recorded.line
