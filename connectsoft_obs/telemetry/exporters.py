"""The ways out of one Telemetry: a pipeline for each signal and destination."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectsoft_obs._version import __version__
from connectsoft_obs.export import (
    ApplicationInsightsDestination,
    BatchProcessor,
    Chunk,
    Destination,
    chunks,
    create_application_insights,
    create_destination,
    missing_exporter_warning,
    otlp_request,
    transport,
)
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import LogPipeline, sdk_records
from connectsoft_obs.signals.logs import otlp_encoder as logs_encode
from connectsoft_obs.signals.metrics import (
    CooperativePause,
    MetricRegistry,
    OtelMeterBridge,
    PausingList,
    Snapshot,
    process_metrics,
)
from connectsoft_obs.signals.metrics import otlp_encoder as metrics_encode
from connectsoft_obs.signals.metrics.bridges import name_conflicts, prometheus_client
from connectsoft_obs.signals.metrics.delta_temporality import DeltaTracker, Part
from connectsoft_obs.signals.tracing import Tracing
from connectsoft_obs.vocabulary import (
    EXPORT_DURATION,
    EXPORTER_STATUS,
    SCHEMA_URL,
    SCOPE,
    ExporterState,
    Signal,
)

Say = Callable[[int, str, dict[str, Any]], None]
_STATES = list(ExporterState)


class Exporters:
    """Sends what has a destination; without one it does nothing and starts no thread.

    Raises:
        ConfigurationError: an address or connection string that cannot be one, or a package that it needs is missing.
    """

    def __init__(
        self,
        settings: Settings,
        attributes: Callable[[], Mapping[str, Any]],
        tracing: Tracing,
        metrics: MetricRegistry,
        meters: OtelMeterBridge,
        stream: LogPipeline,
        *,
        internal_telemetry: InternalTelemetry,
        say: Say,
    ) -> None:
        self._settings = settings
        self._attributes = attributes
        self._metrics = metrics
        self._meters = meters
        self._internal_telemetry = internal_telemetry
        self._say = say
        self._deltas = DeltaTracker(attributes)
        self.pipelines: list[BatchProcessor[Any]] = []
        self.addresses: list[str] = []
        self._to_collector(tracing, stream)
        self._to_insights(tracing, stream)
        self.unsent: str = missing_exporter_warning(settings)
        """What a start-up warning has to say about a destination that gets nothing; "" for nothing."""
        if "console" in (settings.traces_exporter or ()) and not settings.disabled:
            _look_at(tracing)

    def start(self) -> None:
        """The process serves: begin to send metrics at their interval."""
        for line in self.pipelines:
            if line.signal is Signal.METRICS:
                line.start()

    def flush(self, timeout: float) -> bool:
        """Send what waits within `timeout` seconds, to all destinations at once; True when everything was sent."""
        deadline = time.monotonic() + timeout
        asked = [(line, line.request_flush()) for line in self.pipelines]
        return all([line.wait_flushed(number, max(deadline - time.monotonic(), 0)) for line, number in asked])

    def shutdown(self, timeout: float) -> bool:
        """Send what is left, all signals at once, and stop."""
        for line in self.pipelines:
            line.begin_shutdown(timeout)
        return all([line.finish_shutdown() for line in self.pipelines])

    def _to_collector(self, tracing: Tracing, stream: LogPipeline) -> None:
        settings = self._settings
        if (to := create_destination(settings, Signal.TRACES)) is not None:
            spans = self._queue(to, tracing.encoded, tracing.pack)
            tracing.export_to(spans.put)
        if (to := create_destination(settings, Signal.METRICS)) is not None:
            self._pipeline(to, chunks.identity_chunks, _only, 1, 1, settings.metric_interval, refill=self._collected)
        if (to := create_destination(settings, Signal.LOGS)) is not None:
            lines = self._queue(to, chunks.by_scope, lambda lines: logs_encode.pack(lines, self._attributes()))
            stream.export_to(logs_encode.exporter(lines.put))

    def _to_insights(self, tracing: Tracing, stream: LogPipeline) -> None:
        settings = self._settings
        if (to := create_application_insights(settings, Signal.TRACES, tracer_provider=tracing.provider)) is not None:
            spans = self._queue(
                to, chunks.identity_chunks, lambda ended: PausingList(tracing.readable(chunks.iter_items(ended)))
            )
            tracing.export_to(spans.put)
        if (to := create_application_insights(settings, Signal.METRICS)) is not None:
            self._pipeline(
                to,
                chunks.identity_chunks,
                lambda parts: _only(parts).data,
                1,
                1,
                settings.metric_interval,
                refill=self._added,
                accepted=lambda parts: self._deltas.arrived(chunks.iter_items(parts)),
            )
        if (to := create_application_insights(settings, Signal.LOGS)) is not None:
            lines = self._queue(
                to,
                chunks.identity_chunks,
                lambda kept: PausingList(sdk_records.readable(chunks.iter_items(kept), self._attributes())),
            )
            stream.export_to(sdk_records.log_export_callback(lines.put))

    def _queue(
        self,
        to: Destination | ApplicationInsightsDestination,
        gather: Callable[[Sequence[Any]], list[Chunk]],
        pack: Callable[[Sequence[Chunk]], Any],
    ) -> BatchProcessor[Any]:
        """The pipeline of spans or of lines."""
        settings = self._settings
        if to.signal is Signal.TRACES:
            return self._pipeline(
                to,
                gather,
                pack,
                settings.span_max_queue_size,
                settings.span_max_export_batch_size,
                settings.span_schedule_delay,
            )
        return self._pipeline(
            to,
            gather,
            pack,
            settings.log_max_queue_size,
            settings.log_max_export_batch_size,
            settings.log_schedule_delay,
        )

    def _pipeline(
        self,
        to: Destination | ApplicationInsightsDestination,
        gather: Callable[[Sequence[Any]], list[Chunk]],
        pack: Callable[[Sequence[Chunk]], Any],
        limit: int,
        batch: int,
        delay: float,
        **collected: Any,
    ) -> BatchProcessor[Any]:
        made: BatchProcessor[Any] = BatchProcessor(
            to.signal,
            lambda: transport(to),
            gather,
            pack,
            self._internal_telemetry,
            limit=limit,
            batch=batch,
            delay=delay,
            timeout=to.timeout,
            observe=self._observe,
            changed=lambda signal, state, reason: self._changed(to, state, reason),
            name=to.name,
            **collected,
        )
        self.pipelines.append(made)
        self.addresses.append(f"{to.signal.value} to {to.address}")
        self._metrics.family(EXPORTER_STATUS).number(to.signal.value).set(_STATES.index(ExporterState.CLOSED))
        return made

    def _collected(self) -> list[bytes]:
        """What the metrics of this process are now, as requests that no collector finds too large."""
        pause = CooperativePause()
        ours, theirs, taken = self._families(pause)
        return [
            *self._requests(SCOPE, __version__, ours),
            *self._requests(prometheus_client.SCOPE, "", theirs),
            *self._meters.otlp_requests(taken),
        ]

    def _added(self) -> list[Part]:
        """What was added to the metrics of this process since it last arrived."""
        pause = CooperativePause()
        ours, theirs, taken = self._families(pause)
        scopes = [
            (SCOPE, __version__, ours),
            (prometheus_client.SCOPE, "", theirs),
            ("", "", self._meters.snapshots(taken)),
        ]
        return self._deltas.parts(scopes, self._metrics.started_ns, time.time_ns(), pause)

    def _families(self, pause: CooperativePause) -> tuple[list[Snapshot], list[Snapshot], set[str]]:
        """Ours, those of prometheus_client, and the names that instruments of the Meter API cannot have."""
        ours = self._metrics.snapshots(pause)
        taken = name_conflicts.taken_by(ours)
        found = prometheus_client.families(
            lambda error: self._internal_telemetry.record_error("metrics.collector", error)
        )
        theirs = self._meters.twins.without_conflicts(found, taken, name_conflicts.of_client, prometheus_client.SCOPE)
        return [*ours, *process_metrics.threads()], prometheus_client.snapshots(theirs), taken

    def _requests(self, scope: str, version: str, snapshots: Sequence[Snapshot]) -> list[bytes]:
        metrics = self._metrics
        encoded = metrics_encode.metrics(snapshots, metrics.started_ns, time.time_ns(), CooperativePause())
        schema = SCHEMA_URL if version else None
        return [
            otlp_request.request(self._attributes(), SCHEMA_URL, otlp_request.scope(scope, version, schema, [part]))
            for part in metrics_encode.parts(encoded)
        ]

    def _observe(self, signal: Signal, outcome: str, seconds: float) -> None:
        self._metrics.family(EXPORT_DURATION).histogram(signal.value, outcome).observe(seconds)

    def _changed(self, to: Destination | ApplicationInsightsDestination, state: ExporterState, reason: str) -> None:
        worst = max(_STATES.index(line.state) for line in self.pipelines if line.signal is to.signal)
        self._metrics.family(EXPORTER_STATUS).number(to.signal.value).set(worst)
        facts = {"signal": to.signal.value, "endpoint": to.address, "reason": reason}
        if state is ExporterState.OPEN:
            self._say(30, "export fails; telemetry is kept and tried again, the application is not affected", facts)
        else:
            self._say(20, "export works again", facts)


def _only(collected: Sequence[Chunk]) -> Any:
    """The one item of a batch of one."""
    return collected[0].content[0]


def _look_at(tracing: Tracing) -> None:
    """Print each span when it ends, with the SDK's own printer."""
    import sys

    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    tracing.provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
