"""Definitions of all metrics: name, instrument, unit, labels, buckets, and aggregation over worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .attributes import *
from .enums import ExporterState, HealthState
from .prometheus import prometheus_name, unit_word


class Instrument(StrEnum):
    """OpenTelemetry instrument of a metric. STATE is an up-down counter with one series per state."""

    COUNTER = "counter"
    UPDOWN = "updowncounter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    STATE = "state"


class MultiprocessMode(StrEnum):
    """How gauges are aggregated over the worker processes of a service.

    Counters and histograms are always summed, including those of ended workers. SUM, MAX and MIN cover running workers.
    LATEST is the maximum over all workers, including ended ones, for timestamps of past events. STATE metrics show the
    worst state of the running workers.
    """

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    LATEST = "latest"


REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
STREAM_BUCKETS: Final = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0)
JOB_BUCKETS: Final = (
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
)  # fmt: skip
MODEL_BUCKETS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
TOKEN_BUCKETS: Final = tuple(float(4**power) for power in range(14))
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """Definition of one metric.

    Args:
        name: OpenTelemetry name, without unit or `total`.
        instrument: OpenTelemetry instrument.
        unit: UCUM unit (`s`, `By`, `1`, `{request}`).
        help: one sentence.
        labels: attribute names, in the order of the label values of a series.
        buckets: upper bounds of a histogram, in its unit, without +Inf.
        merge: aggregation of gauges over worker processes.
        states: the values of the last label of a STATE metric, in order of severity.
        prometheus_family: Prometheus family name, if it is not the translation of the OpenTelemetry name.
    """

    name: str
    instrument: Instrument
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: MultiprocessMode = MultiprocessMode.SUM
    states: tuple[str, ...] = ()
    prometheus_family: str = ""

    @property
    def family(self) -> str:
        """Family name on /metrics: `prometheus_family`, or the translation of the OpenTelemetry name."""
        return self.prometheus_family or self.otlp_family

    @property
    def otlp_family(self) -> str:
        """Family name in a Prometheus server to which the metric is exported over OTLP (UnderscoreEscapingWithSuffixes)."""
        base, word = prometheus_name(self.name), unit_word(self.unit)
        return f"{base}_{word}" if word and not base.endswith(f"_{word}") else base

    @property
    def survives_worker(self) -> bool:
        """Whether values of a worker are kept after the worker has ended."""
        return self.instrument in (Instrument.COUNTER, Instrument.HISTOGRAM) or self.merge is MultiprocessMode.LATEST


def _seconds(name: str, help_: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Metric:
    return Metric(name, Instrument.HISTOGRAM, "s", help_, labels, buckets)


def _timestamp(
    name: str, help_: str, labels: tuple[str, ...], merge: MultiprocessMode = MultiprocessMode.LATEST
) -> Metric:
    return Metric(name, Instrument.GAUGE, "s", help_, labels, merge=merge)


_REQUEST = (HTTP_METHOD, URL_SCHEME, HTTP_STATUS, HTTP_ROUTE, ERROR_TYPE, PROTOCOL_VERSION)
_STREAM = (STREAM_KIND, URL_SCHEME, HTTP_STATUS, HTTP_ROUTE, OUTCOME, ERROR_TYPE)
_JOB = (JOB_NAME, JOB_TRIGGER)
_MESSAGE = (MESSAGING_SYSTEM, MESSAGING_OPERATION, MESSAGING_DESTINATION, ERROR_TYPE)
_MODEL = (GEN_AI_OPERATION, GEN_AI_PROVIDER, GEN_AI_REQUEST_MODEL)
_STATES = tuple(HealthState)
C, U, G, S = Instrument.COUNTER, Instrument.UPDOWN, Instrument.GAUGE, Instrument.STATE

REQUEST_DURATION = _seconds(
    "http.server.request.duration", "Duration of HTTP server requests.", _REQUEST, REQUEST_BUCKETS
)
ACTIVE_REQUESTS = Metric(
    "http.server.active_requests",
    U,
    "{request}",
    "Number of active HTTP server requests.",
    (HTTP_METHOD, URL_SCHEME),
)
STREAM_DURATION = _seconds(
    "connectsoft.http.stream.duration", "Duration of event streams and WebSockets.", _STREAM, STREAM_BUCKETS
)
STREAM_ACTIVE = Metric(
    "connectsoft.http.stream.active", U, "{stream}", "Number of open event streams and WebSockets.", (STREAM_KIND,)
)
JOB_DURATION = _seconds("connectsoft.job.duration", "Duration of job runs.", (*_JOB, OUTCOME, ERROR_TYPE), JOB_BUCKETS)
JOB_ACTIVE = Metric("connectsoft.job.active", U, "{run}", "Number of job runs in progress.", _JOB)
JOB_RETRIES = Metric("connectsoft.job.retries", C, "{retry}", "Number of job runs that were retries.", _JOB)
JOB_LAST_RUN = _timestamp("connectsoft.job.last_run.timestamp", "When a job last ended, Unix time.", (JOB_NAME,))
JOB_LAST_SUCCESS = _timestamp(
    "connectsoft.job.last_success.timestamp", "When a job last succeeded, Unix time.", (JOB_NAME,)
)
JOB_NEXT_EXPECTED = _timestamp(
    "connectsoft.job.next_expected.timestamp", "When a job is next due, grace included, Unix time.", (JOB_NAME,)
)
JOB_HEARTBEAT = _timestamp(
    "connectsoft.job.heartbeat.timestamp",
    "When a loop last reported progress, Unix time.",
    (JOB_NAME,),
    MultiprocessMode.MIN,
)
PROCESS_DURATION = _seconds(
    "messaging.process.duration", "Duration of processing operation.", _MESSAGE, REQUEST_BUCKETS
)
CONSUMED_MESSAGES = Metric(
    "messaging.client.consumed.messages", C, "{message}", "Number of messages that were delivered to the application.",
    _MESSAGE,
)  # fmt: skip
SENT_MESSAGES = Metric(
    "messaging.client.sent.messages", C, "{message}", "Number of messages producer attempted to send to the broker.",
    _MESSAGE,
)  # fmt: skip
MESSAGE_WAIT = _seconds(
    "connectsoft.message.wait.duration",
    "Time from sending a message to the start of its processing.",
    (MESSAGING_SYSTEM, MESSAGING_DESTINATION),
    JOB_BUCKETS,
)
MESSAGE_OUTCOMES = Metric(
    "connectsoft.message.outcomes", C, "{message}", "Number of processed messages by outcome.",
    (MESSAGING_SYSTEM, MESSAGING_DESTINATION, OUTCOME),
)  # fmt: skip
HEALTH_STATUS = Metric(
    "connectsoft.health.status", S, "1", "State of each probe, 1 for the current one.",
    (HEALTH_KIND, HEALTH_STATE), states=_STATES,
)  # fmt: skip
CHECK_STATUS = Metric(
    "connectsoft.health.check.status", S, "1", "State of each check, 1 for the current one.",
    (CHECK_NAME, HEALTH_KIND, HEALTH_STATE), states=_STATES,
)  # fmt: skip
CHECK_DURATION = _seconds(
    "connectsoft.health.check.duration",
    "Duration of health check runs.",
    (CHECK_NAME, HEALTH_KIND, HEALTH_STATE),
    REQUEST_BUCKETS,
)
HEALTH_TRANSITIONS = Metric(
    "connectsoft.health.transitions", C, "{transition}", "Number of changes of a probe's state.",
    (HEALTH_KIND, HEALTH_STATE),
)  # fmt: skip
DROPPED = Metric(
    "connectsoft.obs.dropped", C, "{item}", "Number of dropped telemetry items.",
    (OBS_SIGNAL, OBS_REASON),
)  # fmt: skip
ERRORS = Metric("connectsoft.obs.errors", C, "{error}", "Number of errors inside the instrumentation.", (OBS_WHERE,))
EXPORT_DURATION = _seconds(
    "connectsoft.obs.export.duration", "Duration of exports.", (OBS_SIGNAL, OBS_OUTCOME), REQUEST_BUCKETS
)
EXPORTER_STATUS = Metric(
    "connectsoft.obs.exporter.status", S, "1", "State of each exporter, 1 for the current one.",
    (OBS_SIGNAL, OBS_EXPORTER_STATE), states=tuple(ExporterState),
)  # fmt: skip
OVERFLOW = Metric(
    "connectsoft.obs.overflow", C, "{measurement}", "Number of measurements beyond the cardinality limit of their metric.",
    (OBS_METRIC,),
)  # fmt: skip
LOOP_LAG = _seconds("connectsoft.event_loop.lag", "How late the event loop ran a scheduled callback.", (), LAG_BUCKETS)
LOG_RECORDS = Metric("connectsoft.log.records", C, "{record}", "Number of log lines.", (LOG_SEVERITY,))
LOG_REDACTIONS = Metric("connectsoft.log.redactions", C, "{value}", "Number of values redacted from log lines.")
GC_COLLECTIONS = Metric(
    "cpython.gc.collections", C, "{collection}", "The number of times a generation was collected since interpreter start.",
    (GC_GENERATION,),
)  # fmt: skip
GC_COLLECTED = Metric(
    "cpython.gc.collected_objects", C, "{object}",
    "The total number of objects collected inside a generation since interpreter start.", (GC_GENERATION,),
)  # fmt: skip
GC_UNCOLLECTABLE = Metric(
    "cpython.gc.uncollectable_objects", C, "{object}",
    "The total number of objects which were found to be uncollectable inside a generation since interpreter start.",
    (GC_GENERATION,),
)  # fmt: skip
BUILD_INFO = Metric(
    "connectsoft.build.info", U, "1", "Version and build of the service; the value is always 1.",
    (SERVICE_VERSION, REVISION, "process.runtime.version", "telemetry.distro.version"), merge=MultiprocessMode.MAX,
)  # fmt: skip
SLO_EVENTS = Metric(
    "connectsoft.slo.events", C, "{event}", "Number of good and bad events of an objective.", (SLO_NAME, SLO_OUTCOME)
)
MODEL_DURATION = _seconds(
    "gen_ai.client.operation.duration", "GenAI operation duration.", (*_MODEL, ERROR_TYPE), MODEL_BUCKETS
)
MODEL_TOKENS = Metric(
    "gen_ai.client.token.usage",
    Instrument.HISTOGRAM,
    "{token}",
    "Number of input and output tokens used.",
    (*_MODEL, GEN_AI_TOKEN_TYPE),
    TOKEN_BUCKETS,
)

CLOSED_LABELS: Final = (
    frozenset(label for value in list(globals().values()) if isinstance(value, Metric) for label in value.labels)
    - UNBOUNDED_LABELS
)
"""Labels with a fixed set of values; all others, including labels of users, are unbounded."""

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every metric this package can emit, in the order of the documentation."""
