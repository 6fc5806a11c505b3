"""What all runs of one kind have in common, bound once to a Telemetry: series, span attributes, fields of the line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from connectsoft_obs.signals.logs import LineTemplate
from connectsoft_obs.signals.logs.levels import ERROR, INFO, WARNING
from connectsoft_obs.signals.metrics import Family, Histogram
from connectsoft_obs.signals.tracing import EncodedAttributes, encode_common_attributes
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import ERROR_TYPE, OUTCOME, Metric, Outcome
from connectsoft_obs.work.registry import WorkRegistry, registry_of

if TYPE_CHECKING:
    from connectsoft_obs.signals.tracing.provider import Tracer
    from connectsoft_obs.slo.event_counter import BoundCounter
    from connectsoft_obs.work.inbound import InboundContext
    from connectsoft_obs.work.run import Run

_ENDINGS = 256
"""Ways to end (outcome and `error.type`) that a record keeps; further ones are bound anew each time."""


class BoundOutcome:
    """What the runs that end in one way share: series, encoded attributes, fields and message of the line.

    An attempt that another one follows has no series: what it belongs to has not ended, and has no outcome yet.
    """

    __slots__ = ("bad", "count", "duration", "fields", "form", "kept", "level", "message", "shared")

    def __init__(self, record: RunRecorder, outcome: Outcome, error: str, retried: bool) -> None:
        self.bad: bool = outcome in (Outcome.FAILURE, Outcome.TIMEOUT)
        self.level = WARNING if retried else ERROR if self.bad else INFO
        self.duration: Histogram | None = None
        self.count: BoundCounter | None = None
        self.kept: bool = True
        if not retried:
            labels = record.labels(outcome, error)
            self.duration = record.durations.histogram(*labels)
            self.kept = labels in record.durations.children
            metric = record.durations.metric
            self.count = record.telemetry.slo_counter(metric, dict(zip(metric.labels, labels, strict=True)), outcome)
        ended: dict[str, Any] = {OUTCOME: "" if retried else outcome.value, ERROR_TYPE: error}
        present = {name: value for name, value in {**record.attributes, **ended}.items() if value}
        self.shared: EncodedAttributes = encode_common_attributes(present, record.title, SpanKind.CONSUMER)
        self.fields: dict[str, Any] = present
        self.message: str = f"{record.title} {outcome}{' and will be retried' if retried else ''}"
        self.form: LineTemplate | None = None
        if not self.bad and not retried:  # a line that says nothing but how long it took; half of what a run cost
            logs = record.telemetry.logs
            numbers = (record.durations.metric.name,)
            self.form = (
                None if logs.is_rate_limited(INFO) else logs.compile_line(self.message, record.logger, present, numbers)
            )


class RunRecorder(ABC):
    """One piece of work, as one Telemetry records it. Holds nothing of a run; thread-safe.

    Args:
        telemetry: who records.
        name: what its log lines call it.
        title: name of its spans.
        metric: the duration.
        attributes: what is known of every run.
        inside: kind of its span inside another span of this process; CONSUMER otherwise.
        logger: name of the logger of its lines.
        event: event name of the log record of an exception.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        name: str,
        title: str,
        *,
        metric: Metric,
        attributes: dict[str, Any],
        inside: SpanKind,
        logger: str,
        event: str,
    ) -> None:
        settings = telemetry.settings
        self.telemetry = telemetry
        self.name = name
        self.title = title
        self.attributes = attributes
        self.inside = inside
        self.logger = logger
        self.event = event
        self.tracer: Tracer = telemetry.tracing.tracer
        self.durations: Family = telemetry.metrics.family(metric)
        self.running: WorkRegistry = registry_of(telemetry)
        self.exemplars: bool = settings.exemplar_filter != "always_off"
        self.quiet: int = {"all": 0, "errors": WARNING, "off": ERROR + 1}[settings.access_log]
        self.endings: dict[tuple[Outcome, str | None, bool], BoundOutcome] = {}
        """What `ending` said before."""

    def ending(self, outcome: Outcome, error: str | None, retried: bool) -> BoundOutcome:
        """What runs that end like this share."""
        return self.endings.get((outcome, error, retried)) or self._bind(outcome, error, retried)

    def known(self, arrival: InboundContext) -> dict[str, Any]:
        """What is known of a run when it begins, for samplers."""
        return {**self.attributes, **(arrival.own or {})}

    @abstractmethod
    def labels(self, outcome: Outcome, error: str) -> tuple[str, ...]:
        """Label values of the duration."""

    @abstractmethod
    def on_start(self, run: Run) -> None:
        """A run has begun. Must not raise."""

    @abstractmethod
    def on_leave(self, run: Run) -> None:
        """A run is over, whatever came of it. Must not raise."""

    @abstractmethod
    def on_finish(self, run: Run, outcome: Outcome, now: int) -> None:
        """The outcome of a run is known and final; `now` is its end in nanoseconds since 1970."""

    def _bind(self, outcome: Outcome, error: str | None, retried: bool) -> BoundOutcome:
        ending = BoundOutcome(self, outcome, error or "", retried)
        if ending.kept and len(self.endings) < _ENDINGS:  # one beyond the series cap is counted each time
            self.endings[outcome, error, retried] = ending
        return ending
