"""Records messages of one destination: the standard `messaging` metrics and a span `process {destination}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

from connectsoft_obs.signals.metrics import NumberSeries
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    CONSUMED_MESSAGES,
    EVENT_PROCESS_EXCEPTION,
    MESSAGE_OUTCOMES,
    MESSAGE_WAIT,
    MESSAGING_DESTINATION,
    MESSAGING_OPERATION,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    PROCESS_DURATION,
    Outcome,
)
from connectsoft_obs.work.recorder import RunRecorder
from connectsoft_obs.work.registry import registry_of

if TYPE_CHECKING:
    from connectsoft_obs.work.inbound import InboundContext

PROCESS = "process"


class ReceivedMessage:
    """Metrics of received messages: count and wait time."""

    __slots__ = ("_consumed", "_wait")

    def __init__(self, telemetry: Telemetry, system: str, destination: str) -> None:
        metrics = telemetry.metrics
        self._consumed = metrics.family(CONSUMED_MESSAGES).number_series(system, PROCESS, destination, "")
        self._wait = metrics.family(MESSAGE_WAIT).histogram_series(system, destination)

    def count(self, inbound: InboundContext) -> None:
        """Record the messages of one run."""
        self._consumed.add(inbound.count)
        for age in inbound.wait_times:
            self._wait.observe(age)


class MessageRecorder(RunRecorder):
    """Records the processing of messages of one destination."""

    def __init__(self, telemetry: Telemetry, system: str, destination: str) -> None:
        attributes = {
            MESSAGING_SYSTEM: system,
            MESSAGING_OPERATION: PROCESS,
            MESSAGING_OPERATION_TYPE: PROCESS,
            MESSAGING_DESTINATION: destination,
        }
        span_name = f"process {destination}"
        super().__init__(
            telemetry,
            span_name,
            span_name,
            metric=PROCESS_DURATION,
            attributes=attributes,
            nested_span_kind=SpanKind.CONSUMER,
            logger="connectsoft_obs.message",
            exception_event=EVENT_PROCESS_EXCEPTION,
        )
        self.system = system
        self._destination = destination
        self._received_message = ReceivedMessage(telemetry, system, destination)
        self._outcomes: dict[Outcome, NumberSeries] = {}
        for outcome in (Outcome.SUCCESS, Outcome.FAILURE):
            self._outcome_series(outcome)
        self.bound_outcome(Outcome.SUCCESS, None, False)

    def labels(self, outcome: Outcome, error: str) -> tuple[str, ...]:
        """Label values of the duration."""
        return (self.system, PROCESS, self._destination, error)

    def on_start(self, inbound: InboundContext) -> None:
        """Count received messages."""
        self._received_message.count(inbound)

    def on_end(self) -> None:
        """Do nothing: there is no metric of active messages."""

    def on_outcome(self, inbound: InboundContext, outcome: Outcome, now: int) -> None:
        """Count messages by outcome."""
        self._outcome_series(outcome).add(inbound.count)

    def _outcome_series(self, outcome: Outcome) -> NumberSeries:
        series = self._outcomes.get(outcome)
        if series is None:
            family = self.telemetry.metrics.family(MESSAGE_OUTCOMES)
            series = self._outcomes[outcome] = family.number_series(self.system, self._destination, outcome.value)
        return series


def message_recorder(telemetry: Telemetry, system: str, destination: str) -> MessageRecorder:
    """The recorder of a destination; cached."""
    key = (MessageRecorder, system, destination)
    return registry_of(telemetry).get_recorder(key, lambda: MessageRecorder(telemetry, system, destination))
