"""Base class of recorders: metric series, span attributes and log fields that runs of one kind share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from connectsoft_obs.signals.logs import LogLineTemplate
from connectsoft_obs.signals.logs.levels import ERROR, INFO, WARNING
from connectsoft_obs.signals.metrics import Family, Histogram
from connectsoft_obs.signals.tracing import EncodedAttributes, encode_common_attributes
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import ERROR_TYPE, OUTCOME, Metric, Outcome, duration_attribute
from connectsoft_obs.work.registry import WorkRegistry, registry_of

if TYPE_CHECKING:
    from connectsoft_obs.signals.tracing import ExternalTracer, Tracer
    from connectsoft_obs.slo.event_counter import BoundCounter
    from connectsoft_obs.work.inbound import InboundContext

_MAX_BOUND_OUTCOMES = 256
"""Limit of cached combinations of outcome and `error.type` per recorder."""


class BoundOutcome:
    """What runs with one outcome share: metric series, encoded attributes, fields and message of the log line.

    A failed attempt that is retried has no duration series, because the job has no outcome yet.
    """

    __slots__ = (
        "count_slo_event", "duration", "fields", "is_bad", "is_cacheable", "level", "line_template", "message",
        "span_attributes",
    )  # fmt: skip

    def __init__(self, recorder: RunRecorder, outcome: Outcome, error: str, retried: bool) -> None:
        self.is_bad: bool = outcome in (Outcome.FAILURE, Outcome.TIMEOUT)
        self.level = WARNING if retried else ERROR if self.is_bad else INFO
        self.duration: Histogram | None = None
        self.count_slo_event: BoundCounter | None = None
        self.is_cacheable: bool = True
        if not retried:
            labels = recorder.labels(outcome, error)
            self.duration = recorder.durations.histogram_series(*labels)
            self.is_cacheable = labels in recorder.durations.children
            metric = recorder.durations.metric
            self.count_slo_event = recorder.telemetry.slo_counter(
                metric, dict(zip(metric.labels, labels, strict=True)), outcome
            )
        outcome_attributes: dict[str, Any] = {OUTCOME: "" if retried else outcome.value, ERROR_TYPE: error}
        present = {name: value for name, value in {**recorder.attributes, **outcome_attributes}.items() if value}
        self.span_attributes: EncodedAttributes = encode_common_attributes(
            present, recorder.span_name, SpanKind.CONSUMER
        )
        self.fields: dict[str, Any] = present
        self.message: str = f"{recorder.span_name} {outcome}{' and will be retried' if retried else ''}"
        self.line_template: LogLineTemplate | None = None
        if (
            not self.is_bad and not retried
        ):  # a log line whose only variable is the duration; encoding it was half the cost of a run
            logs = recorder.telemetry.logs
            numbers = (duration_attribute(recorder.durations.metric.name),)
            self.line_template = (
                None
                if logs.is_rate_limited(INFO)
                else logs.compile_line(self.message, recorder.logger, present, numbers)
            )


class RunRecorder(ABC):
    """Records the runs of one job or the messages of one destination. Has no state of a run; thread-safe.

    Args:
        telemetry: the Telemetry that records.
        name: name of the operation in log lines.
        span_name: name of the spans.
        metric: the duration histogram.
        attributes: attributes of each run.
        nested_span_kind: kind of the span inside another span of this process; CONSUMER otherwise.
        logger: logger name of the log lines.
        exception_event: event name of the log record of an exception.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        name: str,
        span_name: str,
        *,
        metric: Metric,
        attributes: dict[str, Any],
        nested_span_kind: SpanKind,
        logger: str,
        exception_event: str,
    ) -> None:
        settings = telemetry.settings
        self.telemetry = telemetry
        self.name = name
        self.span_name = span_name
        self.attributes = attributes
        self.nested_span_kind = nested_span_kind
        self.logger = logger
        self.exception_event = exception_event
        self.tracer: Tracer | ExternalTracer = telemetry.tracing.tracer
        self.durations: Family = telemetry.metrics.family(metric)
        self.registry: WorkRegistry = registry_of(telemetry)
        self.exemplars: bool = settings.exemplar_filter != "always_off"
        self.min_level: int = {"all": 0, "errors": WARNING, "off": ERROR + 1}[settings.access_log]
        self.bound_outcomes: dict[tuple[Outcome, str | None, bool], BoundOutcome] = {}
        """Cache of `bound_outcome()`."""

    def bound_outcome(self, outcome: Outcome, error: str | None, retried: bool) -> BoundOutcome:
        """The shared data of runs with this outcome; cached."""
        return self.bound_outcomes.get((outcome, error, retried)) or self._bind_outcome(outcome, error, retried)

    def start_attributes(self, inbound: InboundContext) -> dict[str, Any]:
        """Attributes that are known when a run starts, for samplers."""
        return {**self.attributes, **(inbound.span_attributes or {})}

    @abstractmethod
    def labels(self, outcome: Outcome, error: str) -> tuple[str, ...]:
        """Label values of the duration."""

    @abstractmethod
    def on_start(self, inbound: InboundContext) -> None:
        """Called when a run starts. Must not raise."""

    @abstractmethod
    def on_end(self) -> None:
        """Called when a run ends, with any outcome. Must not raise."""

    @abstractmethod
    def on_outcome(self, inbound: InboundContext, outcome: Outcome, now: int) -> None:
        """Called with the final outcome of a run; `now` is its end in nanoseconds since 1970."""

    def _bind_outcome(self, outcome: Outcome, error: str | None, retried: bool) -> BoundOutcome:
        bound = BoundOutcome(self, outcome, error or "", retried)
        if (
            bound.is_cacheable and len(self.bound_outcomes) < _MAX_BOUND_OUTCOMES
        ):  # one beyond the cardinality limit is counted each time
            self.bound_outcomes[outcome, error, retried] = bound
        return bound
