"""Exporters of one Telemetry: one batch processor per signal and destination."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from connectsoft_obs._version import __version__
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.export import (
    ApplicationInsightsDestination,
    BatchProcessor,
    Chunk,
    Destination,
    chunks,
    create_application_insights,
    create_destination,
    create_transport,
    missing_exporter_warning,
    otlp_request,
)
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import LogPipeline, sdk_records
from connectsoft_obs.signals.logs import otlp_encoder as logs_encode
from connectsoft_obs.signals.logs.levels import ERROR
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
from connectsoft_obs.signals.metrics.delta_temporality import DeltaBatch, DeltaTracker
from connectsoft_obs.signals.tracing import SpanPipeline
from connectsoft_obs.telemetry.exporter_status import ExporterStatus, LogFunction
from connectsoft_obs.vocabulary import (
    EXPORT_DURATION,
    EXPORTER_STATUS,
    PLATFORM_INFO,
    SCHEMA_URL,
    SCOPE,
    ExporterState,
    Signal,
)

D = TypeVar("D", Destination, ApplicationInsightsDestination)
_STATES = list(ExporterState)


class Exporters:
    """All batch processors of one Telemetry. Without a destination it does nothing and starts no thread.

    Raises:
        ConfigurationError: an argument for an exporter is invalid. If a variable is invalid, its exporter is off.
    """

    def __init__(
        self,
        settings: Settings,
        attributes: Callable[[], Mapping[str, Any]],
        tracing: SpanPipeline,
        metrics: MetricRegistry,
        meters: OtelMeterBridge,
        log_pipeline: LogPipeline,
        *,
        internal_telemetry: InternalTelemetry,
        log: LogFunction,
    ) -> None:
        self._settings = settings
        self._attributes = attributes
        self._metrics = metrics
        self._meters = meters
        self._internal_telemetry = internal_telemetry
        self._log = log
        self._deltas = DeltaTracker(attributes)
        self.processors: list[BatchProcessor[Any]] = []
        self.statuses: list[ExporterStatus] = []
        self.addresses: list[str] = []
        self.disabled: dict[Signal, str] = {}
        """Signals with an exporter that is off because of an invalid variable, and the error."""
        self._add_otlp_exporters(tracing, log_pipeline)
        self._add_azure_exporters(tracing, log_pipeline)
        self.warning: str = missing_exporter_warning(settings)
        """Start-up warning about a destination that receives nothing; "" if there is none."""
        if "console" in (settings.traces_exporter or ()) and not settings.disabled:
            tracing.export_to_console(settings.log_profile)

    def take_over(self, previous: Exporters) -> None:
        """Export the metrics instead of exporters that end: their last export would contain the same values."""
        for processor in previous.processors:
            processor.stop_collecting()
        self._deltas.take_over(previous._deltas)

    def start(self) -> None:
        """Start the periodic export of metrics."""
        for processor in self.processors:
            if processor.signal is Signal.METRICS:
                processor.start()

    def flush(self, timeout: float) -> bool:
        """Export all queued items within `timeout` seconds, to all destinations in parallel; True if everything was sent."""
        deadline = time.monotonic() + timeout
        requests = [(processor, processor.request_flush()) for processor in self.processors]
        return all(
            [processor.wait_flushed(number, max(deadline - time.monotonic(), 0)) for processor, number in requests]
        )

    def shutdown(self, timeout: float) -> bool:
        """Export remaining items of all signals in parallel, and stop; True if everything was sent."""
        for processor in self.processors:
            processor.begin_shutdown(timeout)
        return all([processor.finish_shutdown() for processor in self.processors])

    def _add_otlp_exporters(self, tracing: SpanPipeline, log_pipeline: LogPipeline) -> None:
        settings = self._settings
        if (destination := self._create(create_destination, Signal.TRACES)) is not None:
            processor = self._add_queue_processor(destination, tracing.encode, tracing.build_request)
            tracing.export_to(processor.put)
        if (destination := self._create(create_destination, Signal.METRICS)) is not None:
            self._add_processor(
                destination,
                chunks.unencoded_chunks,
                _single_item,
                1,
                1,
                settings.metric_interval,
                collect=self._collect_requests,
            )
        if (destination := self._create(create_destination, Signal.LOGS)) is not None:
            processor = self._add_queue_processor(
                destination, chunks.chunks_by_scope, lambda records: logs_encode.pack(records, self._attributes())
            )
            log_pipeline.export_to(logs_encode.export_callback(processor.put))

    def _add_azure_exporters(self, tracing: SpanPipeline, log_pipeline: LogPipeline) -> None:
        settings = self._settings
        if (
            destination := self._create(create_application_insights, Signal.TRACES, tracer_provider=tracing.provider)
        ) is not None:
            processor = self._add_queue_processor(
                destination,
                chunks.unencoded_chunks,
                lambda ended: PausingList(tracing.to_readable(chunks.iter_items(ended))),
            )
            tracing.export_to(processor.put)
        if (destination := self._create(create_application_insights, Signal.METRICS)) is not None:
            self._add_processor(
                destination,
                chunks.unencoded_chunks,
                lambda parts: _single_item(parts).data,
                1,
                1,
                settings.metric_interval,
                collect=self._collect_deltas,
                on_accepted=lambda parts: self._deltas.mark_exported(chunks.iter_items(parts)),
            )
        if (destination := self._create(create_application_insights, Signal.LOGS)) is not None:
            processor = self._add_queue_processor(
                destination,
                chunks.unencoded_chunks,
                lambda records: PausingList(
                    sdk_records.readable_log_records(chunks.iter_items(records), self._attributes())
                ),
            )
            log_pipeline.export_to(sdk_records.export_callback(processor.put))

    def _create(self, create: Callable[..., D | None], signal: Signal, **options: Any) -> D | None:
        """Create a destination. An invalid variable disables it: variables for many services must not stop one."""
        try:
            return create(self._settings, signal, **options)
        except ConfigurationError as error:
            if error.given.partition("=")[0] not in self._settings.sources.values():
                raise
            if self.disabled.setdefault(signal, str(error)) not in list(self.disabled.values())[:-1]:
                self._log(ERROR, f"exporter is off: {error}", {})
            self._update_state_metric(signal)
            return None

    def _add_queue_processor(
        self,
        destination: Destination | ApplicationInsightsDestination,
        encode: Callable[[Sequence[Any]], list[Chunk]],
        build_request: Callable[[Sequence[Chunk]], Any],
    ) -> BatchProcessor[Any]:
        """Add the batch processor of spans or log records."""
        settings = self._settings
        if destination.signal is Signal.TRACES:
            return self._add_processor(
                destination,
                encode,
                build_request,
                settings.span_max_queue_size,
                settings.span_max_export_batch_size,
                settings.span_schedule_delay,
            )
        return self._add_processor(
            destination,
            encode,
            build_request,
            settings.log_max_queue_size,
            settings.log_max_export_batch_size,
            settings.log_schedule_delay,
        )

    def _add_processor(
        self,
        destination: Destination | ApplicationInsightsDestination,
        encode: Callable[[Sequence[Any]], list[Chunk]],
        build_request: Callable[[Sequence[Chunk]], Any],
        max_queue_size: int,
        max_batch_size: int,
        schedule_delay: float,
        **options: Any,
    ) -> BatchProcessor[Any]:
        status = ExporterStatus(destination, self._log, self._update_state_metric)
        processor: BatchProcessor[Any] = BatchProcessor(
            destination.signal,
            lambda: create_transport(destination),
            encode,
            build_request,
            self._internal_telemetry,
            max_queue_size=max_queue_size,
            max_batch_size=max_batch_size,
            schedule_delay=schedule_delay,
            timeout=destination.timeout,
            record_export=self._record_export,
            on_result=status.record_result,
            name=destination.name,
            **options,
        )
        self.processors.append(processor)
        self.statuses.append(status)
        self.addresses.append(f"{destination.signal.value} to {destination.address}")
        self._update_state_metric(destination.signal)
        return processor

    def _collect_requests(self) -> list[bytes]:
        """Current metrics of this process as export requests of limited size."""
        pause = CooperativePause()
        own, external, names_in_use = self._collect_families(pause)
        return [
            *self._encode_requests(SCOPE, __version__, own),
            *self._encode_requests(prometheus_client.SCOPE_NAME, "", external),
            *self._meters.otlp_requests(names_in_use),
        ]

    def _collect_deltas(self) -> list[DeltaBatch]:
        """Changes of the metrics of this process since the last accepted export."""
        pause = CooperativePause()
        own, external, names_in_use = self._collect_families(pause)
        scopes = [
            (SCOPE, __version__, own),
            (prometheus_client.SCOPE_NAME, "", external),
            ("", "", self._meters.snapshots(names_in_use)),
        ]
        return self._deltas.build_batches(scopes, self._metrics.started_ns, time.time_ns(), pause)

    def _collect_families(self, pause: CooperativePause) -> tuple[list[Snapshot], list[Snapshot], set[str]]:
        """Own families, those of prometheus_client, and the names that OTel API instruments cannot use."""
        own = [*self._metrics.snapshots(pause), *process_metrics.own_process_snapshots()]
        names_in_use = name_conflicts.names_in_use(own)
        collected = prometheus_client.collect_families(
            lambda error: self._internal_telemetry.record_error("metrics.collector", error)
        )
        external = self._meters.name_conflicts.filter_conflicts(
            [family for family in collected if family.name != PLATFORM_INFO],
            names_in_use,
            name_conflicts.client_family_names,
            prometheus_client.SCOPE_NAME,
        )
        return own, prometheus_client.snapshots(external), names_in_use

    def _encode_requests(self, scope: str, version: str, snapshots: Sequence[Snapshot]) -> list[bytes]:
        metrics = self._metrics
        encoded = metrics_encode.encode_metrics(snapshots, metrics.started_ns, time.time_ns(), CooperativePause())
        schema = SCHEMA_URL if version else None
        return [
            otlp_request.request(self._attributes(), SCHEMA_URL, otlp_request.scope(scope, version, schema, [part]))
            for part in metrics_encode.split_requests(encoded)
        ]

    def _record_export(self, signal: Signal, outcome: str, seconds: float) -> None:
        self._metrics.family(EXPORT_DURATION).histogram_series(signal.value, outcome).observe(seconds)

    def _update_state_metric(self, signal: Signal) -> None:
        """Set the metric to the most severe state of the exporters of the signal."""
        states = [status.state for status in self.statuses if status.destination.signal is signal]
        states += [ExporterState.REFUSED] if signal in self.disabled else []
        self._metrics.family(EXPORTER_STATUS).number_series(signal.value).set(max(map(_STATES.index, states)))


def _single_item(collected: Sequence[Chunk]) -> Any:
    """The only item of a batch of one."""
    return collected[0].content[0]
