"""What the messages of one destination have in common: the standard `messaging` metrics, a span `process {destination}`."""

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
    from connectsoft_obs.work.run import Run

PROCESS = "process"


class ReceivedMessage:
    """What is counted when a message arrives: one more was delivered, and how long it had waited."""

    __slots__ = ("_consumed", "_wait")

    def __init__(self, telemetry: Telemetry, system: str, destination: str) -> None:
        metrics = telemetry.metrics
        self._consumed = metrics.family(CONSUMED_MESSAGES).number(system, PROCESS, destination, "")
        self._wait = metrics.family(MESSAGE_WAIT).histogram(system, destination)

    def count(self, run: Run) -> None:
        """Count what one run received."""
        self._consumed.add(run.arrival.count)
        for age in run.arrival.waits:
            self._wait.observe(age)


class MessageRecorder(RunRecorder):
    """Messages of one destination."""

    def __init__(self, telemetry: Telemetry, system: str, destination: str) -> None:
        attributes = {
            MESSAGING_SYSTEM: system,
            MESSAGING_OPERATION: PROCESS,
            MESSAGING_OPERATION_TYPE: PROCESS,
            MESSAGING_DESTINATION: destination,
        }
        title = f"process {destination}"
        super().__init__(
            telemetry,
            title,
            title,
            metric=PROCESS_DURATION,
            attributes=attributes,
            inside=SpanKind.CONSUMER,
            logger="connectsoft_obs.message",
            event=EVENT_PROCESS_EXCEPTION,
        )
        self.system = system
        self._destination = destination
        self._received = ReceivedMessage(telemetry, system, destination)
        self._outcomes: dict[Outcome, NumberSeries] = {}
        for outcome in (Outcome.SUCCESS, Outcome.FAILURE):
            self._outcome(outcome)
        self.ending(Outcome.SUCCESS, None, False)

    def labels(self, outcome: Outcome, error: str) -> tuple[str, ...]:
        """Label values of the duration."""
        return (self.system, PROCESS, self._destination, error)

    def on_start(self, run: Run) -> None:
        """Messages have arrived."""
        self._received.count(run)

    def on_leave(self, run: Run) -> None:
        """Nothing is counted at the end but the outcome."""

    def on_finish(self, run: Run, outcome: Outcome, now: int) -> None:
        """Count what became of the messages."""
        self._outcome(outcome).add(run.arrival.count)

    def _outcome(self, outcome: Outcome) -> NumberSeries:
        known = self._outcomes.get(outcome)
        if known is None:
            family = self.telemetry.metrics.family(MESSAGE_OUTCOMES)
            known = self._outcomes[outcome] = family.number(self.system, self._destination, outcome.value)
        return known


def message_recorder(telemetry: Telemetry, system: str, destination: str) -> MessageRecorder:
    """The record of a destination; the same one each time."""
    key = (MessageRecorder, system, destination)
    return registry_of(telemetry).record(key, lambda: MessageRecorder(telemetry, system, destination))
